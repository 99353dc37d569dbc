"""The table of contents of optimizers and schedules. No torch."""

from aibig.config.registry import Entry

OPTIMIZERS = [
    Entry("sgd", "aibig.training.optimizers.builders:sgd", "SGD with momentum"),
    Entry("adam", "aibig.training.optimizers.builders:adam", "Adam"),
    Entry("adamw", "aibig.training.optimizers.builders:adamw", "Adam with decoupled weight decay"),
    Entry("muon", "aibig.training.optimizers.builders:muon", "Muon for hidden matrices, AdamW for the rest"),
]

SCHEDULES = [
    Entry("constant", "aibig.training.optimizers.schedules:constant", "warm-up, then constant"),
    Entry("linear", "aibig.training.optimizers.schedules:linear", "warm-up, then linear decay"),
    Entry("cosine", "aibig.training.optimizers.schedules:cosine", "warm-up, then cosine decay"),
    Entry("warmup_stable_decay", "aibig.training.optimizers.schedules:warmup_stable_decay", "warm-up, constant, decay"),
]
