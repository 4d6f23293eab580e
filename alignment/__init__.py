"""Judgements in, a better policy out: SFT, reward model, PPO, gates. Serving never imports this package."""
