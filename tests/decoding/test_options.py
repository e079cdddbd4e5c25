import math

import pytest

from ragkit.config import fit_config
from ragkit.decoding import GenerationOptions
from ragkit.errors import ConfigError

WRONG = {
    "no tokens": ({"max_new_tokens": 0}, "max_new_tokens must be 1 or more, got 0"),
    "negative temperature": ({"temperature": -0.5}, "use 0 for the likeliest"),
    "tiny temperature": ({"temperature": 1e-9}, "use 0 for the likeliest"),
    "infinite temperature": ({"temperature": math.inf}, "temperature must be"),
    "no number": ({"temperature": math.nan}, "temperature must be"),
    "no candidates": ({"temperature": 1, "top_k": 0}, "leave it out for all tokens"),
    "no mass": ({"temperature": 1, "top_p": 0.0}, "top_p must be above 0"),
    "too much mass": ({"temperature": 1, "top_p": 1.1}, "top_p must be above 0"),
    "share above one": ({"temperature": 1, "min_p": 1.5}, "min_p must be from 0 to 1"),
    "no penalty": ({"repetition_penalty": 0.0}, "use 1 for none"),
    "negative seed": ({"seed": -1}, "seed must be from 0"),
    "empty stop": ({"stop": ("",)}, "strings that are not empty"),
    "one string": ({"stop": "end"}, "write for example"),
    "cut without draw": ({"top_k": 5, "top_p": 0.5}, "top_k and top_p .* set a temperature"),
}


@pytest.mark.parametrize(("values", "hint"), WRONG.values(), ids=WRONG)
def test_a_wrong_option_is_named(values, hint):
    with pytest.raises(ConfigError, match=hint):
        GenerationOptions(**values)


def test_a_recipe_holds_the_options():
    options = fit_config(GenerationOptions, {"temperature": 1, "stop": ["\n"]}, origin="recipe")

    assert options == GenerationOptions(temperature=1.0, stop=("\n",))
