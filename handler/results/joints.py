"""Names and parents of the joints in a result. Knows nothing of bodies.

SMPL's 24 joints (Loper et al. 2015); HMR2's 44 are OpenPose's BODY_25 and the 19 extra joints of SPIN
(Kolotouros et al. 2019), which mix LSP, MPII and Human3.6M definitions; PHALP appends the body's origin.
"""

JOINT_NAMES = (
    "pelvis",
    "left_hip",
    "right_hip",
    "spine1",
    "left_knee",
    "right_knee",
    "spine2",
    "left_ankle",
    "right_ankle",
    "spine3",
    "left_foot",
    "right_foot",
    "neck",
    "left_collar",
    "right_collar",
    "head",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hand",
    "right_hand",
)
PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)

_OPENPOSE = (
    "nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist mid_hip right_hip "
    "right_knee right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear left_big_toe "
    "left_small_toe left_heel right_big_toe right_small_toe right_heel"
)
_EXTRA = (
    "right_ankle right_knee right_hip left_hip left_knee left_ankle right_wrist right_elbow right_shoulder "
    "left_shoulder left_elbow left_wrist lsp_neck lsp_head_top mpii_pelvis mpii_thorax h36m_spine h36m_jaw "
    "h36m_head"
)
PHALP_JOINT_NAMES = (
    *(f"openpose_{name}" for name in _OPENPOSE.split()),
    *(f"extra_{name}" for name in _EXTRA.split()),
    "body_origin",
)
