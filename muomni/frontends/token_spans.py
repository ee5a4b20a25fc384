"""Which token of a text each of its characters belongs to.

Found by the bytes that tokens add to a text, since not every library says where they begin.
"""

from muomni.frontends.tokenizer import Tokenizer


def encode_with_spans(tokenizer: Tokenizer, text: str) -> tuple[list[int], list[int]]:
    """A text -> its ids, as those of a document of the Thinker's training (after BOS, where texts begin with it), and for each
    of its characters the index of its token among them: of a character of several tokens the last, which has read all of it.

    The text is taken as it is, in whatever form. Raises ValueError for a tokenizer that writes it otherwise.
    """
    tokenizer = tokenizer.with_form(None)
    ids, pieces = tokenizer.encode(text, bos=True), tokenizer.encode(text)
    content, at, starts = text.encode(), 0, list[int]()
    for number, index in enumerate(pieces):
        spelt = tokenizer.token_bytes(index, first=number == 0)
        begin = content.find(spelt, at)  # later than `at` after an unknown piece, which spells nothing
        if begin < 0:
            raise ValueError(
                f"the tokenizer ({tokenizer.file_name}) writes {text[:40]!r} otherwise than it is: its characters have no tokens "
                "of their own, as a Talker that is told states needs: train it with backbone.talker.conditioning=text"
            )
        starts.append(begin)
        at = begin + len(spelt)
    before, token, end = len(ids) - len(pieces), -1, 0
    found = list[int]()
    for character in text:
        end += len(character.encode())
        while token + 1 < len(starts) and starts[token + 1] < end:
            token += 1
        found.append(max(token + before, 0))
    return ids, found
