"""Agents. To add one: a file of its own, and a line here."""

TABLE = {
    "random": "mrl_agents.uniform:RandomAgent",
    "blind": "mrl_agents.ppo:Ppo",
    "oracle": "mrl_agents.ppo:Ppo",
    "dqn": "mrl_agents.dqn:Dqn",
    "maml": "mrl_agents.maml:Maml",
    "mbml": "mrl_agents.mbml:Mbml",
    "maml-mbml": "mrl_agents.maml_mbml:MamlMbml",
}
