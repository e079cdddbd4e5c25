"""ROUGE-L: the longest common subsequence of words (Lin 2004, aclanthology.org/W04-1013).

Words are what white space separates, as they stand: neither case nor punctuation is changed.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

Words = Sequence[str]


def rouge_l(answer: str, golds: Sequence[str]) -> float:
    """The best F1 of the words in the longest common subsequence with a gold answer.

    `2 P R / (P + R)`, where P is the share of the answer's words that are in the subsequence and R
    that of the gold answer's.
    """
    found = answer.split()
    return max(_words_f1(found, gold.split()) for gold in golds)


def rouge_l_of_sentences(answer: str, golds: Sequence[str]) -> float:
    """ROUGE-L as KILT's evaluation computes it, by the package `rouge` 1.0: best over the golds.

    A full stop ends a sentence. For each sentence of the gold answer the longest common
    subsequences with all sentences of the answer are united, and every distinct word counts once,
    in the union as in both texts. Equal to `rouge_l` where both are one sentence without a repeated
    word. (The package adds 1e-8 to the denominator of F1, which is left out here.)
    """
    return max(_sentences_f1(_sentences(answer), _sentences(gold)) for gold in golds)


def lcs_length(left: Words, right: Words) -> int:
    """Words in the longest sequence that both contain in order, though perhaps with gaps.

    One addition per word of `right`: bit `i` of a row of the usual table is 0 where the length
    grows at word `i` of `left` (Hyyro 2004, Bit-parallel LCS-length computation revisited).
    """
    places: dict[str, int] = defaultdict(int)
    for place, word in enumerate(left):
        places[word] |= 1 << place
    everywhere = (1 << len(left)) - 1
    row = everywhere
    for word in right:
        matched = row & places.get(word, 0)
        row = (row + matched) | (row - matched)
    return len(left) - (row & everywhere).bit_count()


def _words_f1(answer: Words, gold: Words) -> float:
    return _f1(lcs_length(answer, gold), len(answer), len(gold))


def _f1(shared: int, num_left: int, num_right: int) -> float:
    """`2 P R / (P + R)` of P = shared / num_left and R = shared / num_right."""
    return 2 * shared / (num_left + num_right) if shared else 0.0


def _sentences(text: str) -> list[list[str]]:
    # A sentence of white space alone holds one empty word there.
    return [part.split() or [""] for part in text.split(".") if part]


def _sentences_f1(answer: Sequence[Words], gold: Sequence[Words]) -> float:
    common = {
        word for wanted in gold for found in answer for word in _common_subsequence(wanted, found)
    }
    return _f1(len(common), _num_distinct(answer), _num_distinct(gold))


def _num_distinct(sentences: Sequence[Words]) -> int:
    return len({word for sentence in sentences for word in sentence})


def _common_subsequence(wanted: Words, found: Words) -> Iterator[str]:
    """The words of the longest common subsequence, last first.

    Of several the one that leaves the last words of `found` out first: a union depends on it.
    """
    lengths = _lengths(wanted, found)
    i, j = len(wanted), len(found)
    while i and j:
        if wanted[i - 1] == found[j - 1]:
            i, j = i - 1, j - 1
            yield wanted[i]
        elif lengths[i - 1][j] > lengths[i][j - 1]:
            i -= 1
        else:
            j -= 1


def _lengths(left: Words, right: Words) -> list[list[int]]:
    """Length of the longest common subsequence of every two beginnings, `[left + 1][right + 1]`."""
    table = [[0] * (len(right) + 1)]
    for word in left:
        above, row = table[-1], [0]
        for j, other in enumerate(right):
            row.append(above[j] + 1 if word == other else max(above[j + 1], row[j]))
        table.append(row)
    return table
