"""Asks each model with both official SDKs, plain and streamed, and prints what was answered, one a line.

    converse.py URL TOKEN MODEL...
"""

import sys

import anthropic
import openai

url, token, *models = sys.argv[1:]
user = [{"role": "user", "content": "Hello"}]
of_openai = openai.OpenAI(base_url=f"{url}/v1", api_key=token, max_retries=0)
of_anthropic = anthropic.Anthropic(base_url=url, api_key=token, max_retries=0)
for model in models:
    answer = of_openai.chat.completions.create(model=model, messages=user)
    print(f"openai {model} plain: {answer.choices[0].message.content}")
    chunks = of_openai.chat.completions.create(model=model, messages=user, stream=True)
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    print(f"openai {model} streamed: {text}")
    answer = of_anthropic.messages.create(model=model, messages=user, max_tokens=100)
    print(f"anthropic {model} plain: {answer.content[0].text}")
    with of_anthropic.messages.stream(model=model, messages=user, max_tokens=100) as stream:
        print(f"anthropic {model} streamed: {''.join(stream.text_stream)}")
