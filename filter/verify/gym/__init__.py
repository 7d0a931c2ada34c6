"""Grade answers to reasoning-gym's problems: by the scorers that come with its generators, in
processes that can be killed, and by further checks where those give wrong answers a full score.
"""

from filter.verify.gym.grade import own_answer, reasoning_gym, reasoning_gym_many

__all__ = ["own_answer", "reasoning_gym", "reasoning_gym_many"]
