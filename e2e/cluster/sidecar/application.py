"""An application that knows nothing of Relay: both official SDKs as they come, and the name of a model.

    application.py MODEL [SECONDS]

Asks with each, plain and streamed, and prints an answer a line; with SECONDS again and again. What fails is a line that begins
with FAILED, and without SECONDS the end.
"""

import sys
import time

import anthropic
import openai

model, *every = sys.argv[1:]
user = [{"role": "user", "content": "Hello"}]
of_openai = openai.OpenAI(max_retries=0)
of_anthropic = anthropic.Anthropic(max_retries=0)


def openai_plain():
    return of_openai.chat.completions.create(model=model, messages=user).choices[0].message.content


def openai_streamed():
    chunks = of_openai.chat.completions.create(model=model, messages=user, stream=True)
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


def anthropic_plain():
    return of_anthropic.messages.create(model=model, messages=user, max_tokens=100).content[0].text


def anthropic_streamed():
    with of_anthropic.messages.stream(model=model, messages=user, max_tokens=100) as stream:
        return "".join(stream.text_stream)


while True:
    for ask in [openai_plain, openai_streamed, anthropic_plain, anthropic_streamed]:
        try:
            print(f"{ask.__name__}: {ask()}", flush=True)
        except Exception as error:
            if not every:
                raise
            print(f"FAILED {ask.__name__}: {error!r}", flush=True)
    if not every:
        break
    time.sleep(float(every[0]))
