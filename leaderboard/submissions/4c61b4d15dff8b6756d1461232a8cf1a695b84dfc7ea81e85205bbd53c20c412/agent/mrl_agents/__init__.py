"""Agents. To add one, write a module and list its class here."""

TABLE = {
    "random": "mrl_agents.uniform:RandomAgent",
    "blind": "mrl_agents.ppo:Ppo",
    "oracle": "mrl_agents.ppo:Ppo",
    "dqn": "mrl_agents.dqn:Dqn",
    "maml": "mrl_agents.maml:Maml",
    "mbml": "mrl_agents.mbml:Mbml",
    "maml-mbml": "mrl_agents.maml_mbml:MamlMbml",
}
