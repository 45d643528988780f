"""Task families. To add one, write a package like `cartpole` and add a line to `TABLE`."""

TABLE = {
    "cartpole": "mrl_tasks.cartpole:CartPole",
    "driving": "mrl_tasks.driving:Driving",
    "locomotion": "mrl_tasks.locomotion:Locomotion",
}
