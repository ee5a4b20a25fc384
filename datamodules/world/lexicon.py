"""The words of the world: colours, shapes, sizes, places, numbers, facts, stories, spelling. How they are put: `forms.py`.

Everything is lower-case plain ASCII, so that a vocabulary of about a thousand pieces holds it. The lists are the
same in every world; what a seed changes is who has which fact, and every drawn item.
"""

COLOURS = ("red", "green", "blue", "yellow", "orange", "purple", "cyan", "white")
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
PLURALS = {shape: shape + ("es" if shape == "cross" else "s") for shape in SHAPES}
SIZES = ("small", "big")
PLACES = (
    "top left", "top centre", "top right",
    "middle left", "centre", "middle right",
    "bottom left", "bottom centre", "bottom right",
)  # fmt: skip
RELATIONS = ("above", "below", "left of", "right of")

RELATION_VALUES = {
    "home": ("paris", "rome", "oslo", "cairo", "lima", "delhi", "tokyo", "berlin", "madrid", "dublin", "athens",
             "vienna", "boston", "sydney", "moscow", "havana"),
    "job": ("baker", "farmer", "teacher", "doctor", "painter", "singer", "writer", "pilot", "sailor", "cook", "nurse",
            "driver", "miner", "tailor", "judge", "guard"),
    "food": ("bread", "rice", "soup", "cheese", "apples", "pears", "plums", "nuts", "beans", "corn", "fish", "honey",
             "cake", "melon", "grapes", "eggs"),
    "pet": ("cat", "dog", "horse", "goat", "sheep", "cow", "pig", "duck", "hen", "parrot", "rabbit", "mouse", "fox",
            "crow", "frog", "turtle"),
}  # fmt: skip

_STARTS = ("ba", "be", "bo", "da", "de", "do", "fa", "fe", "ga", "ka", "ke", "ko", "la", "le", "lo", "ma", "mo",
           "na", "ne", "no", "pa", "pe", "ra", "re", "ro", "sa", "se", "ta", "to", "va", "vi", "za")  # fmt: skip
_ENDS = ("bin", "dan", "den", "dor", "fan", "gan", "kan", "len", "lin", "mer", "min", "nan", "nel", "nor", "rin",
         "ron", "san", "ser", "tan", "tor", "van", "vin", "wen", "zan")  # fmt: skip
NAMES = tuple(start + end for start in _STARTS for end in _ENDS)

ACTORS = ("ann", "bob", "carl", "dora", "emma", "fred", "gina", "hugo")
THINGS = ("ball", "book", "key", "cup", "hat", "coin", "doll", "lamp")
CONTAINERS = ("box", "bag", "drawer", "basket", "chest", "bucket", "case", "crate")

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
WORDS = (
    "amber", "axis", "badge", "beach", "bench", "blanket", "branch", "brave", "bridge", "bright", "brush", "button",
    "cabin", "candle", "castle", "chalk", "cherry", "child", "clever", "cliff", "cloud", "cousin", "danger", "dragon",
    "dream", "dust", "empty", "equal", "exact", "fabric", "family", "feather", "fever", "finger", "flame", "flower",
    "forest", "garden", "ghost", "glove", "happy", "harbour", "hazel", "heavy", "honest", "iceberg", "island",
    "ivory", "jacket", "jazz", "jelly", "jewel", "joke", "journey", "juice", "jungle", "kind", "kitchen", "knife",
    "laugh", "lucky", "magic", "marble", "market", "meadow", "monkey", "month", "morning", "mountain", "music",
    "napkin", "oxygen", "pigeon", "pillow", "pocket", "puzzle", "quality", "quarter", "queen", "question", "quick",
    "quiet", "quilt", "razor", "rocket", "sailing", "school", "shadow", "silver", "smoke", "spring", "storm",
    "summer", "temple", "thunder", "travel", "useful", "valley", "vapour", "village", "violin", "voice", "wagon",
    "walnut", "weather", "whisper", "window", "winter", "wizard", "wonder", "xylophone", "yellowish", "yesterday",
    "yogurt", "young", "zebra", "zero", "zigzag", "zipper", "zone",
)  # fmt: skip
