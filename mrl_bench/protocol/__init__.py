"""The protocol: rollouts, meta-training, adaptation, the learning curve, and the privileged observation."""
