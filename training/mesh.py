"""Close a triangle mesh and thin it out without inventing vertices.

Collapses keep a subset of the input vertices, so every per-vertex quantity (shape
directions, skinning weights) carries over by indexing.
"""

import heapq
from collections import Counter

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

Faces = NDArray[np.int64]


def triangulate(quads: Faces) -> Faces:
    """Split each quad along its first diagonal; quads that repeat a vertex are triangles already."""
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    proper = (
        (triangles[:, 0] != triangles[:, 1])
        & (triangles[:, 1] != triangles[:, 2])
        & (triangles[:, 2] != triangles[:, 0])
    )
    return triangles[proper]


def largest_component(faces: Faces, num_vertices: int) -> Faces:
    """Keep the faces of the connected component with the most faces."""
    rows, columns = faces[:, [0, 1, 2]].ravel(), faces[:, [1, 2, 0]].ravel()
    graph = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(num_vertices, num_vertices))
    _, labels = connected_components(graph, directed=False)
    of_face = labels[faces[:, 0]]
    return faces[of_face == np.bincount(of_face).argmax()]


def boundary_loops(faces: Faces) -> list[list[int]]:
    """Return the vertex loops around every hole, in the order that closes it."""
    directed = Counter(map(tuple, faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).tolist()))
    following = {b: a for a, b in directed if (b, a) not in directed}
    loops = []
    while following:
        start, current = following.popitem()
        loop = [start]
        while current != start:
            loop.append(current)
            current = following.pop(current)
        loops.append(loop)
    return loops


def decimate(vertices: NDArray[np.float64], faces: Faces, num_faces: int) -> Faces:
    """Half-edge collapses by quadric error (Garland and Heckbert 1997) until `num_faces` are left.

    A collapse is refused where it would change the topology (link condition) or flip a face.
    Returns faces that index the same vertices; the dropped ones are simply not used any more.
    """
    quadrics = vertex_quadrics(vertices, faces)
    triangles: dict[int, tuple[int, int, int]] = {i: tuple(f) for i, f in enumerate(faces.tolist())}
    around: list[set[int]] = [set() for _ in range(len(vertices))]
    for index, triangle in triangles.items():
        for vertex in triangle:
            around[vertex].add(index)

    def neighbours(vertex: int) -> set[int]:
        return {other for face in around[vertex] for other in triangles[face]} - {vertex}

    def error(gone: int, kept: int) -> float:
        point = np.append(vertices[kept], 1.0)
        return float(point @ (quadrics[gone] + quadrics[kept]) @ point)

    version = [0] * len(vertices)
    heap: list[tuple[float, int, int, int, int]] = []

    def push(vertex: int) -> None:
        for other in neighbours(vertex):
            for gone, kept in ((vertex, other), (other, vertex)):
                length = float(np.sum((vertices[gone] - vertices[kept]) ** 2))
                cost = error(gone, kept) + 1e-7 * length  # flat areas: short edges first
                heapq.heappush(heap, (cost, gone, kept, version[gone], version[kept]))

    for vertex in range(len(vertices)):
        push(vertex)
    while len(triangles) > num_faces:
        _, gone, kept, version_gone, version_kept = heapq.heappop(heap)
        if (version[gone], version[kept]) != (version_gone, version_kept):
            continue
        if len(neighbours(gone) & neighbours(kept)) != 2 or len(neighbours(gone)) < 4:
            continue
        if any(len(neighbours(v)) <= 3 for v in neighbours(gone) & neighbours(kept)):
            continue
        if flips(vertices, [triangles[face] for face in around[gone]], gone, kept):
            continue
        for face in list(around[gone]):
            triangle = triangles[face]
            if kept in triangle:
                for vertex in triangle:
                    around[vertex].discard(face)
                del triangles[face]
            else:
                triangles[face] = tuple(kept if v == gone else v for v in triangle)
                around[kept].add(face)
        around[gone] = set()
        quadrics[kept] += quadrics[gone]
        version[gone] = -1
        version[kept] += 1
        push(kept)
    return np.array(sorted(triangles.values()), dtype=np.int64)


def vertex_quadrics(vertices: NDArray[np.float64], faces: Faces) -> NDArray[np.float64]:
    """Return each vertex's sum of area-weighted plane quadrics (v, 4, 4)."""
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(normals, axis=1, keepdims=True) / 2
    normals = normals / np.maximum(2 * area, 1e-20)
    planes = np.concatenate([normals, -np.sum(normals * corners[:, 0], axis=1, keepdims=True)], axis=1)
    per_face = area[:, :, None] * planes[:, :, None] * planes[:, None, :]
    quadrics = np.zeros((len(vertices), 4, 4))
    for corner in range(3):
        np.add.at(quadrics, faces[:, corner], per_face)
    return quadrics


def flips(vertices: NDArray[np.float64], triangles: list[tuple[int, int, int]], gone: int, kept: int) -> bool:
    """Tell whether moving `gone` to `kept` turns a face by more than about 80 degrees or makes a sliver."""
    for triangle in triangles:
        if kept in triangle:
            continue
        a, b, c = (vertices[v] for v in triangle)
        before = np.cross(b - a, c - a)
        a, b, c = (vertices[kept if v == gone else v] for v in triangle)
        after = np.cross(b - a, c - a)
        area = np.linalg.norm(after)
        if area < 1e-9 or before @ after < 0.2 * np.linalg.norm(before) * area:
            return True
    return False


def vertex_normals(vertices: NDArray[np.float64], faces: Faces) -> NDArray[np.float64]:
    """Return area-weighted unit normals (v, 3)."""
    corners = vertices[faces]
    per_face = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, faces[:, corner], per_face)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-20)
