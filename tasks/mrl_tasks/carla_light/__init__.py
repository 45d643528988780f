"""A CARLA-0.9.16 server without CARLA, for clients on this machine; see docs/carla.md."""
