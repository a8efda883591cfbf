"""Speak to those who take the money: one port, one adapter each."""
