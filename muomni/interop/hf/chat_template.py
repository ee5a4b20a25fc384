"""Our prompt format (muomni/frontends/chat.py) as a Jinja template, for tools that form prompts by one.

    BOS [<system> text] <user> question <assistant> answer EOS <user> question <assistant> ...

Text items alone: images and audio need the modules that do not leave. The tokenizer puts a space before each text, as ours does.
"""

from muomni.special_tokens import ASSISTANT, BOS, EOS, PIECES, SYSTEM, USER

TEMPLATE = """\
{%- macro text_of(message) -%}
  {%- if message.content is string -%}
    {{- message.content -}}
  {%- else -%}
    {%- for item in message.content -%}
      {%- if item.type not in ['text', 'speech'] -%}
        {{- raise_exception('this model reads text alone, not ' + item.type) -}}
      {%- endif -%}
      {%- if not loop.first -%}{{- ' ' -}}{%- endif -%}
      {{- item.text -}}
    {%- endfor -%}
  {%- endif -%}
{%- endmacro -%}
{{- BOS -}}
{%- if messages[0].role == 'system' -%}
  {%- set system = text_of(messages[0]) -%}
  {%- if system -%}{{- SYSTEM + system -}}{%- endif -%}
  {%- set turns = messages[1:] -%}
{%- else -%}
  {%- set turns = messages -%}
{%- endif -%}
{%- for message in turns -%}
  {%- if message.role != ['user', 'assistant'][loop.index0 % 2] -%}
    {{- raise_exception('the turns must alternate user, assistant') -}}
  {%- endif -%}
  {%- if message.role == 'user' -%}
    {{- USER + (text_of(message) | trim) -}}
  {%- else -%}
    {{- ASSISTANT + text_of(message) + EOS -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- ASSISTANT -}}{%- endif -%}
"""
TOKENS = {"BOS": BOS, "EOS": EOS, "USER": USER, "ASSISTANT": ASSISTANT, "SYSTEM": SYSTEM}
NATIVE_TEMPLATE = TEMPLATE
for _name, _index in TOKENS.items():
    NATIVE_TEMPLATE = NATIVE_TEMPLATE.replace(_name, f"'{PIECES[_index]}'")
