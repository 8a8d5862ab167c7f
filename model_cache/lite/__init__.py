"""The bundled small models and the free body. Knows nothing of jobs; see NOTICE for where they come from."""
