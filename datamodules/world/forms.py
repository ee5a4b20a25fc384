"""The forms in which people say things: questions, requests and statements, as templates with slots.

    (a|b)      one of the alternatives, the first is the canonical one; (|now ) may be empty
    <colour>   a word of SYNONYMS, the first is the canonical one
    {a}        what the form is about

A question is put directly ("what colour is {a}?"), or a frame asks for a noun ("tell me the colour of {a}") or a clause
("can you say what colour {a} is?"). The first direct form, with its first words, is the canonical form. What is held out is
decided in `wording.py`.
"""

from typing import NamedTuple

SYNONYMS = {
    "colour": ("colour", "shade", "hue", "color"),
    "shape": ("shape", "outline", "figure", "form"),
    "place": ("place", "location", "spot", "position"),
    "number": ("number", "total", "amount"),
    "picture": ("picture", "photo", "image"),
    "job": ("job", "profession", "occupation"),
    "food": ("food", "dish", "meal"),
}

#: Ask for a noun or a clause.
FRAMES = (
    "let me know {x}", "tell me {x}", "please tell me {x}", "(can|could) you tell me {x}?", "(can|could) you say {x}?",
    "(can|could) you please tell me {x}?", "(i want to|i would like to|i'd like to) know {x}", "do you know {x}?",
    "tell me {x}, please", "(hello|hi|hey), tell me {x}",
)  # fmt: skip
NOUN_FRAMES = ("name {x}", "give me {x}", "{x}, please", "{x}?", "please (name|give) {x}")
CLAUSE_FRAMES = ("i wonder {x}", "any idea {x}?", "(would|will) you tell me {x}?", "i need to know {x}",
                 "do tell me {x}")  # fmt: skip


class Asking(NamedTuple):
    """The forms of a question. Each noun and clause is put into each frame."""

    direct: tuple[str, ...]
    nouns: tuple[str, ...] = ()
    clauses: tuple[str, ...] = ()


QUESTIONS = {
    # about a picture: {a} is "the big circle" or, of counts, "red objects"
    "colour": Asking(
        ("what <colour> is {a}?", "what <colour> does {a} have?", "which <colour> does {a} have?",
         "which <colour> is {a}?",
         "(what is|what's) the <colour> of {a}?", "{a} is (what|which) <colour>?", "{a} has (what|which) <colour>?",
         "(of|in) (what|which) <colour> is {a}?", "in the <picture>, what <colour> is {a}?",
         "what <colour> is {a} in the <picture>?", "what <colour> do you see (at|on) {a}?"),
        ("the <colour> of {a}",), ("(what|which) <colour> {a} (is|has)",),
    ),
    "shape": Asking(
        ("what <shape> is {a}?", "what <shape> does {a} have?", "which <shape> does {a} have?", "which <shape> is {a}?",
         "(what is|what's) the <shape> of {a}?", "{a} is (what|which) <shape>?", "{a} has (what|which) <shape>?",
         "(of|in) (what|which) <shape> is {a}?", "in the <picture>, what <shape> is {a}?",
         "what <shape> is {a} in the <picture>?", "what <shape> do you see (at|on) {a}?"),
        ("the <shape> of {a}",), ("(what|which) <shape> {a} (is|has)",),
    ),
    "count": Asking(
        ("how many {a} are there?", "how many {a} do you see?", "how many {a} can you see?",
         "how many {a} are in the <picture>?",
         "how many {a} does the <picture> show?", "(count|please count) the {a}",
         "(what is|what's) the <number> of {a}?",
         "there are how many {a}?", "how many {a} (has|contains|holds) the <picture>?",
         "in the <picture>, how many {a} are there?",
         "(can|could) you count the {a}?"),
        ("the <number> of {a}",), ("how many {a} (there are|you see|you can see)",),
    ),
    "where": Asking(
        ("where is {a}?", "where (can|could) i find {a}?", "where's {a}?", "in which <place> is {a}?",
         "where do you see {a}?",
         "(what is|what's) the <place> of {a}?", "{a} is where?", "where in the <picture> is {a}?",
         "at which <place> is {a}?",
         "in which <place> of the <picture> is {a}?", "in the <picture>, where is {a}?"),
        ("the <place> of {a}",), ("where {a} is", "where to find {a}"),
    ),
    "relation": Asking(
        ("is {a} {relation} {b}?", "(do|can) you see {a} {relation} {b}?", "is it true that {a} is {relation} {b}?",
         "would you say (|that ){a} is {relation} {b}?", "{a} is {relation} {b}, (right|isn't it)?",
         "is it (right|correct) that {a} is {relation} {b}?", "{a} is {relation} {b}, is that (true|right|correct)?",
         "in the <picture>, is {a} {relation} {b}?", "is {a} {relation} {b} in the <picture>?",
         "does the <picture> show {a} {relation} {b}?", "yes or no, is {a} {relation} {b}?"),
        (), ("(if|whether) {a} is {relation} {b}", "whether you see {a} {relation} {b}"),
    ),
    "digit": Asking(
        ("which digit is this?", "(what|which) digit does the <picture> show?", "what number do you see?",
         "what digit is that?",
         "(what|which) number is this?", "what is the digit?", "(what|which) digit do you see?",
         "(what|which) digit is written here?",
         "read the (digit|number)", "what is written in the <picture>?", "which number is in the <picture>?"),
        ("the (digit|number) in the <picture>",), ("(what|which) (digit|number) this is",),
    ),
    "caption": Asking(
        ("describe the <picture>", "what do you see in the <picture>?", "(what is|what's) in the <picture>?",
         "what does the <picture> show?", "what can you see?", "what (is|can be) seen (here|there)?",
         "describe what you see",
         "please describe the <picture>", "(can|could) you describe the <picture>?",
         "give me a description of the <picture>",
         "tell me about the <picture>"),
        (), ("what is in the <picture>", "what you see", "what the <picture> shows"),
    ),
    # about a recording
    "asr": Asking(
        ("write down what you hear", "what do you hear?", "(please|now) write down what you hear", "what was said?",
         "(write|type|note) down the (words|speech)", "what (did they|does the voice|did the speaker) say?",
         "(can|could) you write down what was said?", "transcribe the (recording|speech|words)",
         "which words do you hear?",
         "(write|type) what was said", "what is (said|spoken) (here|there)?"),
        ("the words that you hear",), ("what you hear", "what was said"),
    ),
    "heard_colour": Asking(
        ("which <colour> did you hear?", "what <colour> did you hear?", "what <colour> was named?",
         "which <colour> was (said|named)?",
         "(what|which) <colour> do you hear?", "(what|which) <colour> is named?", "what was the <colour>?",
         "you heard (what|which) <colour>?", "the voice named (what|which) <colour>?",
         "(what|which) <colour> did the voice say?",
         "what is the <colour> that was named?"),
        ("the <colour> that (was named|you heard)",), ("(what|which) <colour> (was named|you heard)",),
    ),
    "heard_shape": Asking(
        ("which <shape> did you hear?", "what <shape> did you hear?", "what <shape> was named?",
         "which <shape> was (said|named)?",
         "(what|which) <shape> do you hear?", "(what|which) <shape> is named?", "what was the <shape>?",
         "you heard (what|which) <shape>?", "the voice named (what|which) <shape>?",
         "(what|which) <shape> did the voice say?",
         "what is the <shape> that was named?"),
        ("the <shape> that (was named|you heard)",), ("(what|which) <shape> (was named|you heard)",),
    ),
    # of texts: {a} is a person's name, "the ball", or "12 + 7"
    "home": Asking(
        ("where does {a} live?", "in (which|what) city does {a} live?", "in (which|what) city is the home of {a}?",
         "where is the (home|house) of {a}?", "(which|what) city does {a} live in?",
         "where (is|stands) {a}'s (home|house)?",
         "where can (i|we|one) find {a}?", "where's the (home|house) of {a}?", "{a} lives where?",
         "{a} lives in (which|what) city?",
         "where is {a} at home?"),
        ("the home of {a}", "the city of {a}"), ("where {a} lives", "(which|what) city {a} lives in"),
    ),
    "job": Asking(
        ("what is the <job> of {a}?", "(what is|what's) {a}'s <job>?", "what does {a} work as?",
         "what's the <job> of {a}?",
         "(what|which) <job> does {a} have?", "what does {a} do (for a living|all day)?", "as what does {a} work?",
         "{a} works as what?", "how does {a} earn money?", "what did {a} become?", "{a} has (what|which) <job>?"),
        ("the <job> of {a}", "{a}'s <job>"), ("what {a} works as", "(what|which) <job> {a} has"),
    ),
    "food": Asking(
        ("what does {a} like to eat?", "(what|which) <food> does {a} like?", "which <food> is best for {a}?",
         "(what is|what's) the best <food> for {a}?", "(what is|what's) {a}'s best <food>?", "what is {a} fond of?",
         "what does {a} (often|always) ask for?", "{a} likes to eat what?", "what does {a} (want|love) to eat?",
         "{a} likes (what|which) <food>?", "what should i cook for {a}?"),
        ("the best <food> for {a}", "{a}'s best <food>"), ("what {a} likes to eat", "(what|which) <food> {a} likes"),
    ),
    "pet": Asking(
        ("which pet does {a} keep?", "what (pet|animal) does {a} (keep|have)?", "what is the pet of {a}?",
         "(what is|what's) {a}'s pet?", "which animal does {a} (keep|have)?", "what's the pet of {a}?",
         "which pet does {a} have?",
         "{a} keeps (what|which) (pet|animal)?", "{a} takes care of what?", "what does {a} take care of?",
         "which pet (has|keeps) {a}?"),
        ("the pet of {a}", "{a}'s pet"), ("which (pet|animal) {a} keeps", "what pet {a} has"),
    ),
    "story": Asking(
        ("where is {a}?", "where can (i|we|one) find {a}(| now)?", "where's {a}(| now)?", "where is {a} now?",
         "in what is {a}(| now)?", "where (did|does) {a} end up?", "{a} is where(| now)?",
         "where do (i|we|you) find {a}?",
         "where should (i|we|one) look for {a}?", "what holds {a}(| now)?", "what is {a} in(| now)?"),
        ("the place of {a}",), ("where {a} is(| now)", "where to find {a}"),
    ),
    "sum": Asking(
        ("what is {a}?", "what's {a}?", "how much is {a}?", "what does {a} (make|give)?", "how much does {a} make?",
         "{a} is (what|how much)?", "(compute|please compute) {a}", "{a} makes (what|how much)?",
         "(work out|please work out) {a}",
         "what do (you|i|we) get for {a}?", "what number is {a}?"),
        ("the (result|value) of {a}",), ("(what|how much) {a} is", "what {a} makes"),
    ),
    # captions and words to say again
    "list": Asking(
        ("{things}", "here we have {things}", "the <picture> shows {things}", "you can see {things}",
         "(i|we) (see|can see) {things}",
         "(this|the) <picture> (has|contains|holds) {things}",
         "in the <picture> (there is|you see|i see|we see) {things}",
         "this <picture> shows {things}", "there is {things}", "look at {things}", "here (is|you see) {things}",
         "(in|on) this <picture> (there is|you see) {things}", "you see {things}", "(i|you|we) (notice|find|discover) {things}",
         "(it|this) shows {things}", "what (i|you|we) see is {things}", "(the|this) <picture> is of {things}"),
    ),
    "say": Asking(
        ("say {a}", "(please|now|then) say: {a}", "repeat {a}", "(please|now|then) repeat: {a}",
         "(say|repeat|read) this: {a}",
         "(say|repeat|read) after me: {a}", "(please|now|then) read (aloud|out): {a}",
         "(say|repeat|read) (just|exactly): {a}", "(can|could|will|would) you (say|repeat|read): {a}",
         "(say|read) (out loud|aloud): {a}", "let me hear: {a}", "(i want|i would like) to hear: {a}", "speak: {a}",
         "say it (again|aloud): {a}", "here is what to (say|repeat|read): {a}", "say the words: {a}",
         "(speak|say) these words: {a}",
         "(speak|say) (slowly|clearly): {a}"),
    ),
}  # fmt: skip

#: Statements, of which nothing is held out: of a picture of a digit, and of who does what.
DIGITS_SHOWN = ("the digit {digit} in {colour}", "a {colour} {digit}",
         "the number {digit} (written|painted) in {colour}",
                "the picture shows a {colour} {digit}", "(here|there) is the digit {digit} in {colour}")  # fmt: skip
#: The name comes before what is said of it: the other way round it could not be learnt as an answer.
STATEMENTS = {
    "home": ("{name} lives in {value}", "the (home|house) of {name} is in {value}", "{name} has a (house|home) in {value}",
             "you can find {name} in {value}", "{name}'s (home|house) is in {value}"),
    "job": ("{name} works as a {value}", "the job of {name} is to be a {value}", "{name} is a {value}",
            "{name} earns money as a {value}", "{name}'s (job|work) is to be a {value}"),
    "food": ("{name} likes to eat {value}", "the best food for {name} is {value}", "{name} is fond of {value}",
             "{name} (often|always) asks for {value}", "{name}'s best food is {value}"),
    "pet": ("{name} keeps a {value}", "the (pet|animal) of {name} is a {value}", "{name} has a {value}",
            "{name} takes care of a {value}", "{name}'s (pet|animal) is a {value}"),
}  # fmt: skip
PUTS = ("{actor} puts the {thing} in the {place}.", "the {thing} of {actor} is in the {place}.",
        "{actor} (has put|is putting) the {thing} in the {place}.")  # fmt: skip
MOVES = ("{actor} moves the {thing} to the {place}.", "then {actor} takes the {thing} to the {place}.",
         "(now|later) {actor} (brings|carries) the {thing} to the {place}.")  # fmt: skip
