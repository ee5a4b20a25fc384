"""An image with captions, {"image", "captions"}, as a row of another shape: one manifest trains a model of images and text."""

from datamodules.formats.entries import Row

REQUEST = "describe the image"


def _captions(row: Row) -> list[str]:
    captions = row["captions"] if "captions" in row else [row.get("caption")]
    return [text for text in captions if isinstance(text, str) and text.strip()] if isinstance(captions, list) else []


def as_document(row: Row) -> Row:
    """A row of shape text: the captions, a line each. One that has a text, or no captions, as it is."""
    if "text" in row or "prompt" in row:
        return row
    captions = _captions(row)
    return row | {"text": "\n".join(captions)} if captions else row


def as_conversation(row: Row) -> Row:
    """A row of shape sft: the first caption answers a request to describe the image, and is judged by exact match. One that is a
    conversation, or has no captions, as it is."""
    captions = [] if "messages" in row else _captions(row)
    if "image" not in row or not captions:
        return row
    request = [{"type": "image", "image": row["image"]}, {"type": "text", "text": REQUEST}]
    messages = [{"role": "user", "content": request}, {"role": "assistant", "content": captions[0]}]
    return {"task": "image_qa", "meta": {"question": "caption"}} | row | {"messages": messages}
