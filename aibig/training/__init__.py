"""The table of contents of optimizers and schedules. No torch."""

from aibig.registry import Entry

OPTIMIZERS = [
    Entry("sgd", "aibig.training.optimizer:sgd", "SGD with momentum"),
    Entry("adam", "aibig.training.optimizer:adam", "Adam"),
    Entry("adamw", "aibig.training.optimizer:adamw", "Adam with decoupled weight decay"),
    Entry("muon", "aibig.training.optimizer:muon", "Muon for hidden matrices, AdamW for the rest"),
]

SCHEDULES = [
    Entry("constant", "aibig.training.schedule:constant", "warm-up, then constant"),
    Entry("linear", "aibig.training.schedule:linear", "warm-up, then a straight line down"),
    Entry("cosine", "aibig.training.schedule:cosine", "warm-up, then half a cosine down"),
    Entry(
        "warmup_stable_decay",
        "aibig.training.schedule:warmup_stable_decay",
        "warm-up, constant, then a straight line down at the end",
    ),
]
