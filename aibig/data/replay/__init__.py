"""What an agent learns from: transitions, kept and sampled. Knows no environment and no model."""
