"""What an agent lives through: rollouts, meta-training, adaptation, and the learning curve."""
