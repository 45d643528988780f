"""The protocol: rollouts, meta-training, adaptation, the learning curve, and what agents must keep to."""
