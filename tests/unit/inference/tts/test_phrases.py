"""Phrases of a text that is being written: the same however it comes, and their words are those of the sentence."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from muomni.frontends.text_normalizer import LETTERS, normalize_text
from muomni.inference.tts.phrases import SHORTEST, Phrase, PhraseSplitter
from muomni.inference.tts.sentences import split_sentences

WORDS = """the a in of and is red circle march may by mid early vs vs. dr. Dr. St. Smith million mm m k chapter IV no. No.
    p.m. w/ 1984 5 km $5 7 - 2 = % 1st 3/4 10:30 pm don't US FBI MP3 x to between 1990 ' ... ! ? , a, e.g. jan january 2nd
    hundred 12,50 € ° C per / day h min 1h 30m his 90s 's (5) -3 +1 555 123 4567 # & + on sat sun""".split()  # noqa: SIM905


def phrases_of(pieces, *, whole=False):
    splitter = PhraseSplitter(whole=whole)
    return [phrase for piece in pieces for phrase in splitter.push(piece)] + splitter.close()


def cut(text, ends):
    ends = sorted({0, len(text), *(end % (len(text) + 1) for end in ends)})
    return [text[begin:end] for begin, end in zip(ends, ends[1:], strict=False)]


texts = st.lists(st.sampled_from([*WORDS, "\n", ""]), max_size=24).map(" ".join)


@settings(max_examples=150, deadline=None)
@given(texts, st.lists(st.integers(0, 500), max_size=8))
@example("it was on the 5 of january and then in the 90s", [3])
def test_the_words_are_those_of_the_sentences_however_the_text_comes(text, ends):
    phrases = phrases_of(cut(text, ends))
    assert phrases == phrases_of([text])
    assert "".join(phrase.text for phrase in phrases).split() == text.split()
    said, sentences = "", []
    for phrase in phrases:
        said = f"{said} {normalize_text(phrase.text, LETTERS).text}".strip()
        if phrase.ends:
            sentences.append(said)
            said = ""
    assert not said, "the last phrase ends its sentence"
    assert sentences == [normalize_text(sentence, LETTERS).text for sentence in split_sentences(text)]
    assert [p.text.strip() for p in phrases_of([text], whole=True)] == split_sentences(text)


def test_a_phrase_comes_with_the_word_after_it():
    splitter = PhraseSplitter(whole=False)
    pieces = ["The red circle", " is", " big", " ", "and ", "the other one is not. Is", " it?"]
    assert [splitter.push(piece) for piece in pieces] == [
        [], [], [Phrase("The red circle ", ends=False)], [], [],
        [Phrase("is big and ", ends=False), Phrase("the other ", ends=False), Phrase("one is not. ", ends=True)], [],
    ]  # fmt: skip
    assert splitter.close() == [Phrase("Is it?", ends=True)]
    assert all(len(phrase.text) >= SHORTEST for phrase in phrases_of(["a b c d e f g h i j k l m n o p"])[:-1])


def test_numbers_stay_with_their_neighbours():
    assert [phrase.text for phrase in phrases_of(["it was built in 1984 and it costs a $5 million deal to see it"])] == [
        "it was built ", "in 1984 and it ", "costs a $5 million deal ", "to see it",
    ]  # fmt: skip
