"""Make `model_cache/lite/body.npz`: a free body in SMPL's structure, from samples of the `anny` model.

    python -m training.make_body build/anny_samples.npz model_cache/lite/body.npz      # 2-3 minutes

The counts are SMPL's (6,890 vertices, 13,776 faces, 24 joints, 10 shape directions), the vertex order is not,
so the vertex-indexed joints have indices of their own. Pose directions are zero and not stored.
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from training import skeleton as sk
from training.mesh import boundary_loops, decimate, largest_component, triangulate

NUM_FACES, NUM_VERTICES, NUM_BETAS = 13_776, 6_890, 10
PELVIS_POSITION = np.array([0.0, -0.24, 0.03])  # about where SMPL has it, metres
REGRESSOR_CANDIDATES = 300
Array = NDArray[np.float64]


def main() -> None:
    """Clean and thin the mesh, T-pose the samples, find shape directions and regressors, save."""
    source = np.load(sys.argv[1])
    labels = [str(label) for label in source["bone_labels"]]
    to_y_up = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    vertices = source["vertices"].astype(np.float64) @ to_y_up.T
    heads = source["bone_heads"].astype(np.float64) @ to_y_up.T
    weights = sk.smpl_weights(source["weights"].astype(np.float64), source["weight_bones"], labels)

    faces, vertices, weights = watertight(source["quads"], vertices, weights)
    faces = decimate(vertices[0], faces, NUM_FACES)
    kept = np.unique(faces)
    assert len(kept) == NUM_VERTICES, len(kept)
    faces = np.searchsorted(kept, faces)
    vertices, weights = vertices[:, kept], weights[kept]
    weights = four_largest(weights)

    joints = sk.smpl_joints(heads, labels)
    vertices, joints = t_pose(vertices, joints, heads, weights, labels)
    template, directions = shape_space(vertices)
    regressor = joint_regressor(vertices, joints)
    check(vertices, joints, template, directions, regressor)
    vertex_joints = extra_joint_vertices(template, regressor @ template, weights)
    np.savez_compressed(
        Path(sys.argv[2]),
        v_template=template.astype(np.float32),
        faces=faces.astype(np.int32),
        shapedirs=directions.astype(np.float16),
        J_regressor=regressor.astype(np.float32),
        lbs_weights=weights.astype(np.float16),
        parents=sk.PARENTS.astype(np.int64),
        extra_joint_vertex_ids=vertex_joints.astype(np.int64),
        joint_regressor_extra=extra_regressor(template, regressor, vertex_joints).astype(np.float32),
    )
    print(f"wrote {sys.argv[2]}: {Path(sys.argv[2]).stat().st_size / 1e6:.2f} MB")


def watertight(
    quads: NDArray[np.int64], vertices: Array, weights: Array
) -> tuple[NDArray[np.int64], Array, Array]:
    """Keep the skin, close its holes (mouth, eyes) with a fan around each hole's mean point."""
    faces = largest_component(triangulate(quads.astype(np.int64)), vertices.shape[1])
    loops = boundary_loops(faces)
    print("holes:", [len(loop) for loop in loops])
    for loop in loops:
        centre = vertices.shape[1]
        vertices = np.concatenate([vertices, vertices[:, loop].mean(1, keepdims=True)], axis=1)
        weights = np.concatenate([weights, weights[loop].mean(0, keepdims=True)])
        fan = [[a, b, centre] for a, b in zip(loop, loop[1:] + loop[:1], strict=True)]
        faces = np.concatenate([faces, np.array(fan)])
    assert not boundary_loops(faces)
    return faces, vertices, weights


def four_largest(weights: Array) -> Array:
    """Keep the four largest weights of each vertex, as SMPL does, summing to one."""
    smallest = np.argsort(weights, axis=1)[:, :-4]
    weights = weights.copy()
    np.put_along_axis(weights, smallest, 0.0, axis=1)
    return weights / weights.sum(1, keepdims=True)


def t_pose(
    vertices: Array, joints: Array, heads: Array, weights: Array, labels: list[str]
) -> tuple[Array, Array]:
    """Bend every sample into SMPL's T-pose with the pelvis at one place."""
    index = {label: i for i, label in enumerate(labels)}
    posed_vertices, posed_joints = np.empty_like(vertices), np.empty_like(joints)
    for i in range(len(vertices)):
        spread = {
            wrist: heads[i, index[f"finger2-1.{side}"]] - heads[i, index[f"finger5-1.{side}"]]
            for wrist, side in ((sk.L_WRIST, "L"), (sk.R_WRIST, "R"))
        }
        world = sk.t_pose_rotations(joints[i], spread)
        posed_vertices[i], posed_joints[i] = sk.pose(vertices[i], joints[i], weights, world)
        shift = PELVIS_POSITION - posed_joints[i, sk.PELVIS]
        posed_vertices[i] += shift
        posed_joints[i] += shift
    return posed_vertices, posed_joints


def shape_space(vertices: Array) -> tuple[Array, Array]:
    """Mean (v, 3) and ten directions (v, 3, 10) of unit variance, by PCA over the samples."""
    mean = vertices.mean(0)
    centred = (vertices - mean).reshape(len(vertices), -1)
    u, s, vt = np.linalg.svd(centred, full_matrices=False)
    explained = (s[:NUM_BETAS] ** 2).sum() / (s**2).sum()
    rebuilt = (u[:, :NUM_BETAS] * s[:NUM_BETAS]) @ vt[:NUM_BETAS]
    error = np.linalg.norm((rebuilt - centred).reshape(len(vertices), -1, 3), axis=2)
    print(f"10 directions: {100 * explained:.2f} % of variance, mean error {1000 * error.mean():.2f} mm")
    scale = s[:NUM_BETAS] / np.sqrt(len(vertices) - 1)
    return mean, (vt[:NUM_BETAS] * scale[:, None]).reshape(NUM_BETAS, -1, 3).transpose(1, 2, 0)


def joint_regressor(vertices: Array, joints: Array) -> Array:
    """Non-negative rows (24, v) that sum to one and give the joints from T-posed vertices."""
    regressor = np.zeros((24, vertices.shape[1]))
    for joint in range(24):
        distance = np.linalg.norm(vertices[0] - joints[0, joint], axis=1)
        near = np.argsort(distance)[:REGRESSOR_CANDIDATES]
        near = np.union1d(near, ring(vertices[0], joints[0, joint]))
        samples = slice(0, None, 4)
        system = vertices[samples, near].transpose(0, 2, 1).reshape(-1, len(near))
        target = joints[samples, joint].reshape(-1)
        one = 30.0 * np.ones((1, len(near)))
        solution, _ = nnls(np.concatenate([system, one]), np.append(target, 30.0))
        regressor[joint, near] = solution / solution.sum()
    return regressor


def ring(vertices: Array, joint: Array) -> NDArray[np.int64]:
    """Return the nearest vertex in each of 60 directions around a joint, so that it can lie between them."""
    offsets = vertices - joint
    distance = np.linalg.norm(offsets, axis=1)
    golden = np.arange(60) * np.pi * (3 - np.sqrt(5))
    height = np.linspace(-0.98, 0.98, 60)
    radius = np.sqrt(1 - height**2)
    directions = np.stack([radius * np.cos(golden), height, radius * np.sin(golden)], axis=1)
    cosine = offsets @ directions.T / distance[:, None]
    score = np.where(cosine > 0.85, distance[:, None], np.inf)
    return np.unique(score.argmin(0)[np.isfinite(score.min(0))])


def check(vertices: Array, joints: Array, template: Array, directions: Array, regressor: Array) -> None:
    """Print how well the regressor finds the joints and how tall the mean is."""
    error = np.linalg.norm(np.einsum("jv,svc->sjc", regressor, vertices) - joints, axis=2).mean(0)
    print("joint error, mm:", np.round(1000 * error, 1).tolist(), "non-zeros:", int((regressor > 0).sum()))
    print(f"height of the mean {np.ptp(template[:, 1]):.3f} m")


def extra_joint_vertices(template: Array, joints: Array, weights: Array) -> NDArray[np.int64]:
    """Return the 21 vertex joints in SMPL's order: face 5, feet 6, finger tips 5 + 5."""

    def extreme(mask: NDArray[np.bool_], direction: tuple[float, float, float]) -> int:
        index = np.flatnonzero(mask)
        return int(index[(template[index] @ np.array(direction)).argmax()])

    def nearest(point: Array) -> int:
        return int(np.linalg.norm(template - point, axis=1).argmin())

    head = weights[:, sk.HEAD] > 0.5
    nose = extreme(head & (np.abs(template[:, 0]) < 0.01), (0, 0, 1))
    tip = template[nose]
    eyes = [nearest(tip + np.array([side * 0.033, 0.038, -0.030])) for side in (-1, 1)]
    top = template[head, 1].max()
    ear_height = (template[:, 1] > top - 0.16) & (template[:, 1] < top - 0.08)
    ears = [extreme(head & ear_height, (side, 0, 0)) for side in (-1, 1)]
    found = [nose, eyes[0], eyes[1], ears[0], ears[1]]
    for sign, ankle, foot in ((1, sk.L_ANKLE, sk.L_FOOT), (-1, sk.R_ANKLE, sk.R_FOOT)):
        toes = weights[:, foot] > 0.5
        middle = joints[foot, 0]
        inner = toes & (sign * (template[:, 0] - middle) < -0.01)
        outer = toes & (sign * (template[:, 0] - middle) > 0.02)
        heel = weights[:, ankle] > 0.5
        found += [extreme(inner, (0, 0, 1)), extreme(outer, (sign * 0.5, 0, 1)), extreme(heel, (0, -0.4, -1))]
    for sign, wrist, hand in ((1, sk.L_WRIST, sk.L_HAND), (-1, sk.R_WRIST, sk.R_HAND)):
        thumb = extreme(weights[:, wrist] > 0.5, (sign * 0.5, 0, 1))
        found += [thumb, *finger_tips(template, weights[:, hand] > 0.5, sign)]
    return np.array(found)


def finger_tips(template: Array, fingers: NDArray[np.bool_], sign: int) -> list[int]:
    """Index, middle, ring, little: the outermost vertex of each of four clusters across the hand (z)."""
    index = np.flatnonzero(fingers)
    outward = template[index, 0] * sign
    far = index[outward > np.quantile(outward, 0.35)]
    z = template[far, 2]
    centres = np.quantile(z, [0.9, 0.62, 0.35, 0.1])
    for _ in range(30):  # one-dimensional k-means
        label = np.abs(z[:, None] - centres).argmin(1)
        centres = np.array([z[label == k].mean() for k in range(4)])
    return [int(far[label == k][(template[far[label == k], 0] * sign).argmax()]) for k in range(4)]


def extra_regressor(template: Array, regressor: Array, vertex_joints: NDArray[np.int64]) -> Array:
    """Return HMR2's 19 extra joints (19, v): LSP 14, MPII pelvis and thorax, H36M spine, jaw, head."""
    rows = np.zeros((19, len(template)))
    order = [sk.R_ANKLE, sk.R_KNEE, sk.R_HIP, sk.L_HIP, sk.L_KNEE, sk.L_ANKLE,
             sk.R_WRIST, sk.R_ELBOW, sk.R_SHOULDER, sk.L_SHOULDER, sk.L_ELBOW, sk.L_WRIST]  # fmt: skip
    rows[:12] = regressor[order]
    shoulders = (regressor[sk.L_SHOULDER] + regressor[sk.R_SHOULDER]) / 2
    hips = (regressor[sk.L_HIP] + regressor[sk.R_HIP]) / 2
    rows[12] = 0.5 * regressor[sk.NECK] + 0.5 * shoulders  # LSP neck: between the collar bones
    rows[13, template[:, 1].argmax()] = 1.0  # LSP top of the head
    rows[14] = hips  # MPII pelvis
    rows[15] = 0.5 * regressor[sk.NECK] + 0.5 * shoulders  # MPII thorax
    rows[16] = 0.5 * regressor[sk.SPINE1] + 0.5 * regressor[sk.SPINE2]  # H36M spine
    rows[17] = 0.5 * regressor[sk.NECK] + 0.5 * regressor[sk.HEAD]  # H36M jaw
    rows[18] = 0.5 * regressor[sk.HEAD] + 0.5 * rows[13]  # H36M head
    return rows


if __name__ == "__main__":
    main()
