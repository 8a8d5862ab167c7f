"""The bundled small models and the free body; NOTICE says where they come from."""
