"""Lists every request field of the two published APIs, from the parameter types of their official Python SDKs.

Needs the packages `openai` and `anthropic`; run it in a scratch environment and commit what it writes beside itself:

    python list_fields.py

A file holds `bases`, small requests by name, and `fields`: the path of a field in words, the base to put it into, the
JSON pointer at which it goes, and a sample value. The pointer's last step may be missing in the base. Fields of an
enumeration have one entry for each value.
"""

import collections.abc
import importlib.metadata
import json
import pathlib
import re
import types
import typing

import typing_extensions

SHAPES = {
    "openai-chat": [("openai", "openai.types.chat.completion_create_params", "CompletionCreateParamsStreaming")],
    "anthropic-messages": [
        ("anthropic", "anthropic.types.message_create_params", "MessageCreateParamsStreaming"),
        ("anthropic", "anthropic.types.beta.message_create_params", "MessageCreateParamsStreaming"),
    ],
}

# Not fields of a body, or fields that name what the request is sent with.
LEFT_OUT = {"model", "betas", "stream"}

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}

# Values that a type cannot tell: by the end of the path.
SAMPLES = [
    (r"image_url\.url$", "data:image/png;base64,aGVsbG8="),
    (r"image\]\.source\[base64\]\.data$", "aGVsbG8="),
    (r"content\[file\]\.file$", {"file_data": "data:application/pdf;base64,aGVsbG8=", "filename": "a.pdf"}),
    (r"file_data$", "data:application/pdf;base64,aGVsbG8="),
    (r"source\[text\]\.data$", "plain words"),
    (r"\.data$", "aGVsbG8="),
    (r"\burl$", "https://example.com/a.png"),
    (r"function\.arguments$|function_call\.arguments$", '{"city":"Paris"}'),
    (r"custom\.input$", "free words"),
    (r"\.input$", {"city": "Paris"}),
    (r"allowed_tools\.tools$", [{"type": "function", "function": {"name": "name_words"}}]),
    (r"^modalities$", ["text", "audio"]),
    (r"\bfile_id$", "file_abc"),
    (r"(parameters|input_schema|json_schema\.schema|\]\.schema)$", SCHEMA),
    (r"input_examples$", [{"city": "Paris"}]),
    (r"logit_bias$", {"50256": -100}),
    (r"budget_tokens$", 2048),
    (r"(max_tokens|max_completion_tokens)$", 4000),
    (r"temperature$", 0.5),
    (r"top_p$", 0.5),
    (r"(frequency|presence)_penalty$", 0.5),
    (r"top_logprobs$", 2),
    (r"^n$", 2),
    (r"^stop$|stop_sequences$", ["END"]),
    (r"tool_call_id$|tool_use_id$", "call_1"),
    (r"json_schema\]\.json_schema$", {"name": "name_words", "schema": SCHEMA}),
]

# A sample that stands in the base already is told from it by another value.
OTHER = [("aGVsbG8=", "d29ybGQ="), ("a.png", "b.png"), ("Paris", "Rome"), ("2048", "20000"), ("city", "town"), ("plain", "simple")]

# The requests that every sample goes into.
USER = {"role": "user", "content": "Hello."}
ROOTS = {
    "openai-chat": {"model": "m", "stream": True, "messages": [USER]},
    "anthropic-messages": {"model": "m", "stream": True, "max_tokens": 32000, "messages": [USER]},
}

# What has to stand before a message of a role, so that a request makes sense.
FUNCTION_CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
BEFORE = {
    ("openai-chat", "tool"): [USER, {"role": "assistant", "content": None, "tool_calls": [FUNCTION_CALL]}],
    ("openai-chat", "function"): [
        USER,
        {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": "{}"}},
    ],
    ("anthropic-messages", "tool_result"): [
        USER,
        {"role": "assistant", "content": [{"type": "tool_use", "id": "call_1", "name": "weather", "input": {}}]},
    ],
}

# Fields that clients send and the SDKs do not know yet.
BEYOND = {
    "openai-chat": [("client_metadata", {"key": "value"})],
    "anthropic-messages": [
        ("safeguards", {"mode": "auto"}),
        ("tags", {"team": "value"}),
        ("temperature", 0.5),
        ("top_p", 0.5),
        ("top_k", 7),
    ],
}

# What else a request needs for a field to make sense, by the beginning of the path.
FUNCTION = {"name": "name_words", "parameters": SCHEMA}
FUNCTIONS = [FUNCTION, {"name": "second", "parameters": SCHEMA}]
TOOL = {"name": "name_words", "input_schema": SCHEMA}
BESIDE = {
    "openai-chat": [
        (r"tool_choice|parallel_tool_calls", {"tools": [{"type": "function", "function": each} for each in FUNCTIONS]}),
        (r"function_call", {"functions": FUNCTIONS}),
        (r"top_logprobs", {"logprobs": True}),
    ],
    "anthropic-messages": [(r"tool_choice", {"tools": [TOOL]})],
}

# Objects that no shape but their own knows: listed whole, without what they hold.
WHOLE = re.compile(
    r"content\[(compaction|browser_state|fallback|tool_addition|tool_removal|server_tool_use|mcp_.*|advisor_.*|(?!tool_result).+_tool_result)\]$"
    r"|tools\[(?!function|custom|web_search).+\]$"
    r"|mcp_servers\[.*\]$|fallbacks\[\]$|context_management\.edits\[.+\]$|container|thread|safeguards"
    r"|(?<!messages\[assistant\]\.content\[text\]\.)citations\[.+_location\]$"
)

# Blocks that belong to one role, though the types let every role have them.
USERS = re.compile(r"image|document|search_result|tool_result|container_upload")
ASSISTANTS = re.compile(r"tool_use|thinking|redacted_thinking|compaction|fallback|.+_tool_use|.+_tool_result|mcp_.+|advisor_.+")


class Lister:
    def __init__(self, shape):
        self.shape = shape
        self.bases = {}
        self.fields = {}

    def walk(self, record, path, base, pointer, inside):
        for name, kind in typing.get_type_hints(record, include_extras=True).items():
            if name in LEFT_OUT and not path:
                continue
            step = f"{path}.{name}" if path else name
            beside = next((more for pattern, more in BESIDE[self.shape] if not path and re.match(pattern, step)), {})
            self.field(kind, step, {**base, **beside}, f"{pointer}/{name}", inside)

    def field(self, kind, path, base, pointer, inside):
        if path == "messages":
            return self.messages(kind, base, inside)
        for choice in choices(kind):
            if choice is type(None):
                continue
            origin = typing.get_origin(choice)
            if typing_extensions.is_typeddict(choice):
                self.record(choice, path, base, pointer, inside)
            elif origin is typing.Literal:
                self.literals(choice, path, base, pointer)
            elif is_list(origin):
                self.list(typing.get_args(choice)[0], path, base, pointer, inside)
            elif choice is bool:
                self.add(f"{path}=true", base, pointer, True)
                self.add(f"{path}=false", base, pointer, False)
            elif choice is str and self.override(path) is None:
                self.add(path, base, pointer, f"other_{last_name(path)}")
            else:
                self.add(path, base, pointer, self.sample(choice, path))

    def literals(self, choice, path, base, pointer):
        values = typing.get_args(choice)
        if path.split(".")[-1] in ("type", "role"):
            return
        held = look(base, pointer)
        if len(values) == 1 and held == values[0]:
            return
        for value in values:
            other = put(base, pointer, values[-1]) if held == value else base
            self.add(f"{path}={value}" if len(values) > 1 else path, other, pointer, value)

    def record(self, record, path, base, pointer, inside):
        """A field that holds an object: the object itself, then what it can hold."""
        named = f"{path}[{variant(record)}]" if variant(record) else path
        value = self.override(path) or self.minimal(record, named)
        if value:
            self.add(named, base, pointer, value)
        if record not in inside and not WHOLE.search(named):
            # An object that needs nothing comes into being with the field that it holds.
            holder = put(base, pointer, value) if value else base
            self.walk(record, named, holder, pointer, inside | {record})

    def list(self, element, path, base, pointer, inside):
        for choice in choices(element):
            if hasattr(choice, "model_fields"):
                continue  # a block of an answer, which the SDK takes as well
            if not typing_extensions.is_typeddict(choice):
                self.add(path, base, pointer, self.override(path) or [self.sample(choice, path)])
                continue
            if not belongs(path, variant(choice)):
                continue
            named = f"{path}[{variant(choice) or ''}]"
            value = self.minimal(choice, named)
            holder = self.before(variant(choice), base, pointer)
            where = pointer if holder is base else re.sub(r"^/messages/\d+", f"/messages/{len(BEFORE[self.shape, variant(choice)])}", pointer)
            if look(holder, where) is None:
                self.add(named, holder, where, [value])
            else:
                beside = put(holder, where, [{"type": "text", "text": "words"}])
                self.add(named, beside, f"{where}/1", value)
            if choice not in inside and not WHOLE.search(named):
                self.walk(choice, named, put(holder, where, [value]), f"{where}/0", inside | {choice})

    def messages(self, kind, base, inside):
        for message in choices(typing.get_args(choices(kind)[0])[0]):
            role = variant(message)
            before = BEFORE.get((self.shape, role), [] if role == "user" else [USER])
            value = {"content": f"{role}_words", **self.minimal(message, f"messages[{role}]")}
            request = put(base, "/messages", before + [value] + [USER] * (role == "assistant"))
            pointer = f"/messages/{len(before)}"
            if role not in ("user", "assistant"):
                self.add(f"messages[{role}]", put(base, "/messages", before), pointer, value)
            self.walk(message, f"messages[{role}]", request, pointer, inside | {message})

    def before(self, name, base, pointer):
        """A base in which the turn before makes sense of a block."""
        turns = BEFORE.get((self.shape, name))
        if not turns or not pointer.startswith("/messages/"):
            return base
        index = int(pointer.split("/")[2])
        return put(base, "/messages", turns + base["messages"][index:])

    def minimal(self, record, path):
        value = {}
        for name, kind in typing.get_type_hints(record, include_extras=True).items():
            if is_required(record, kind):
                value[name] = self.sample(kind, f"{path}.{name}")
        return value

    def sample(self, kind, path):
        given = self.override(path)
        if given is not None:
            return given
        choice = next(choice for choice in choices(kind) if choice is not type(None))
        origin = typing.get_origin(choice)
        if typing_extensions.is_typeddict(choice):
            return self.minimal(choice, f"{path}[{variant(choice)}]" if variant(choice) else path)
        if origin is typing.Literal:
            return typing.get_args(choice)[0]
        if is_list(origin):
            return [self.sample(typing.get_args(choice)[0], path)]
        if origin is dict:
            return {"key": "value"}
        return {bool: True, int: 7, float: 0.5, str: f"{last_name(path)}_words"}.get(choice, {"key": "value"})

    def override(self, path):
        return next((value for pattern, value in SAMPLES if re.search(pattern, path)), None)

    def add(self, path, base, pointer, sample):
        if look(base, pointer) == sample and not isinstance(sample, (bool, int)) or sample == 2048:
            text = json.dumps(sample)
            for one, another in OTHER:
                text = text.replace(one, another)
            sample = json.loads(text)
        text = json.dumps(base)
        name = self.bases.setdefault(text, len(self.bases))
        self.fields.setdefault((path, pointer, json.dumps(sample)), {"path": path, "base": name, "at": pointer, "sample": sample})


def choices(kind):
    """The alternatives of a type, with the wrappers of typing taken off."""
    origin = typing.get_origin(kind)
    if origin in (typing.Required, typing.NotRequired, typing.Annotated):
        return choices(typing.get_args(kind)[0])
    if origin in (typing.Union, types.UnionType):
        return [each for part in typing.get_args(kind) for each in choices(part)]
    return [kind]


def last_name(path):
    return re.split(r"[.\[\]]+", path.rstrip("]"))[-1]


def belongs(path, block):
    if path in ("messages[assistant].content", "messages[system].content"):
        return not USERS.fullmatch(block)
    return path != "messages[user].content" or not ASSISTANTS.fullmatch(block) or block == "tool_result"


def is_required(record, kind):
    origin = typing.get_origin(kind)
    return origin is typing.Required or (record.__total__ and origin is not typing.NotRequired)


def is_list(origin):
    return origin in (list, collections.abc.Iterable, collections.abc.Sequence)


def variant(record):
    hints = typing.get_type_hints(record, include_extras=True)
    for name in ("type", "role"):
        values = [v for c in choices(hints.get(name, str)) if typing.get_origin(c) is typing.Literal for v in typing.get_args(c)]
        if values and not (name == "type" and "role" in hints):
            return values[0]
    return None


def put(request, pointer, value):
    """A copy of a request with a value at a pointer."""
    copy = json.loads(json.dumps(request))
    *steps, last = pointer.strip("/").split("/")
    place = copy
    for step in steps:
        place = place[int(step)] if isinstance(place, list) else place.setdefault(step, {})
    if isinstance(place, list):
        place[int(last) :] = [value]
    else:
        place[last] = value
    return copy


def look(request, pointer):
    """What stands at a pointer; None where nothing does."""
    place = request
    for step in pointer.strip("/").split("/"):
        try:
            place = place[int(step) if isinstance(place, list) else step]
        except (KeyError, IndexError, TypeError):
            return None
    return place


def main():
    here = pathlib.Path(__file__).parent
    for shape, sources in SHAPES.items():
        lister = Lister(shape)
        for _, module, name in sources:
            record = getattr(__import__(module, fromlist=[name]), name)
            lister.walk(record, "", ROOTS[shape], "", frozenset({record}))
        for name, sample in BEYOND[shape]:
            lister.add(name, ROOTS[shape], f"/{name}", sample)
        package = sources[0][0]
        lines = [
            "{",
            f'"source": "{package} {importlib.metadata.version(package)}",',
            '"bases": [',
            ",\n".join(lister.bases),
            "],",
            '"fields": [',
            ",\n".join(json.dumps(field) for field in lister.fields.values()),
            "]",
            "}",
        ]
        (here / f"{shape}.json").write_text("\n".join(lines) + "\n")
        print(shape, len(lister.bases), "bases", len(lister.fields), "fields")


main()
