"""Task families. To add one: a package of its own beside `cartpole`, and a line here."""

TABLE = {
    "cartpole": "mrl_tasks.cartpole:CartPole",
    "driving": "mrl_tasks.driving:Driving",
    "locomotion": "mrl_tasks.locomotion:Locomotion",
}
