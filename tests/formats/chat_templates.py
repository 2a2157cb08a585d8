"""Chat templates of the well-known shapes, and conversations to fill them with."""

from __future__ import annotations

from typing import Any

CHATML = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content | trim + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""

LLAMA3 = """\
{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Cutting Knowledge Date: December 2023\\nToday Date: " + date_string + "\\n\\n" }}
{%- if tools is not none %}
    {{- "You have access to the following functions:\\n\\n" }}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
        {{- message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("This model only supports single tool-calls at once!") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
        {{- '{"name": "' + tool_call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}" }}
        {{- "<|eot_id|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

GEMMA = """\
{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '\\n\\n' -%}
    {%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '\\n\\n' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '\\n' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}
                {{ '<start_of_image>' }}
            {%- elif item['type'] == 'text' -%}
                {{ item['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model\\n'}}
{%- endif -%}
"""

MISTRAL = """\
{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace(index=0) %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("roles must alternate") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != "return" %}
                    {%- if val is string %}
                        {{- '"' + key + '": "' + val + '"' }}
                    {%- else %}
                        {{- '"' + key + '": ' + val|tojson }}
                    {%- endif %}
                    {%- if not loop.last %}{{- ", " }}{%- endif %}
                {%- endfor %}
                {{- "}}" }}
                {%- if not loop.last %}{{- ", " }}{%- else %}{{- "]" }}{%- endif %}
            {%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" }}
        {%- for tool_call in message.tool_calls %}
            {%- set out = tool_call.function|tojson %}
            {{- out[:-1] }}
            {{- ', "id": "' + tool_call.id + '"}' }}
            {%- if not loop.last %}{{- ", " }}{%- else %}{{- "]" + eos_token }}{%- endif %}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token }}
    {%- elif message["role"] == "tool" %}
        {{- '[TOOL_RESULTS] {"content": ' + message.content|string + ', "call_id": "' + message.tool_call_id }}
        {{- '"}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported!") }}
    {%- endif %}
{%- endfor %}
"""

# Whatever else Jinja offers that templates in the wild use.
KITCHEN_SINK = """\
{%- macro describe(value, depth=0) -%}
    {%- if value is mapping -%}
        {%- for key, inner in value | dictsort -%}
            {{- '  ' * depth }}{{ key | title }}: {{ describe(inner, depth=depth + 1) }};
        {%- endfor -%}
    {%- elif value is iterable and value is not string -%}
        [{{ value | map('string') | join(' | ') }}]
    {%- else -%}
        {{- value -}}
    {%- endif -%}
{%- endmacro -%}
{%- set ns = namespace(seen=[], last_user=-1, text='') -%}
{%- for message in messages -%}
    {%- if loop.index0 > 900 %}{% break %}{% endif -%}
    {%- if message.role == 'system' %}{% continue %}{% endif -%}
    {%- set ns.seen = ns.seen + [message.role] -%}
    {%- if message.role == 'user' %}{% set ns.last_user = loop.index0 %}{% endif -%}
    {%- set ns.text = ns.text ~ loop.index ~ '/' ~ loop.length ~ (' first' if loop.first) ~ ' last' * loop.last -%}
{%- else -%}
    nobody
{%- endfor -%}
{{ ns.seen | unique | join(',') }} {{ ns.last_user }} {{ ns.text }}
{{ describe(messages[-1]) }}
{% set shouted %}{{ messages[0].content | string | upper | replace('E', '3') }}{% endset %}
{{ shouted | length }} {{ shouted[::-1][:20] }} {{ shouted.split()[0] if shouted.split() else '' }}
{% for group in [1, 2, 3, 4, 5] | batch(2, 0) %}{{ group | sum }}{{ ', ' if not loop.last }}{% endfor %}
{% generation %}{{ '%s is %05.2f' | format('pi', 3.14159) }} {{ '%d%%' % 12 }}{% endgeneration %}
{{ '{}-{x}'.format(1, x=2) }}
{% for message in messages | rejectattr('role', 'in', ['system', 'tool']) | list %}
    {%- if message.content is defined and message.content %}
        {{- loop.previtem.role if loop.previtem is defined }}>
    {%- endif -%}
{% endfor %}
{{ 7 // 2 }} {{ 7 / 2 }} {{ 2 ** 10 }} {{ -7 % 3 }} {{ 1 < 2 <= 2 }} {{ 'a' in 'cat' }} {{ [1, [2]] == [1, [2]] }}
{{ {'a': none, 'b': [true, 1.5], 'é': '<&>'} | tojson }} {{ (1, 'x') }}
{{ none }} {{ missing }} {{ missing | default('d') }} {{ messages }} {{ {'a': 1}.items() }}
{{ "line\\nother" | indent(2, true) }} {{ ' x ' | trim | first }} {{ [3, 1, 2] | sort | last }} {{ '1' | int + 1 }}
{{ messages | map(attribute='role') | list }} {{ range(2, 9, 3) | list }} {{ dict(a=1).get('b', 'none') }}
{% macro twice(x) %}{{ caller(x) }}{{ caller(x) }}{% endmacro %}
{% call(x) twice('!') %}again{{ x }}{% endcall %}{% filter upper %}filtered{% endfilter %}
{% with a = 1 %}{{ a }}{% endwith %}
{{ 'a-b_c'.replace('-', '+').partition('_') }} {{ 'Abc'.startswith('A') and 'abc'.endswith(('x', 'c')) }}
{{ 'x,y'.split(',') }}
"""

TEMPLATES = {
    "chatml": CHATML,
    "llama 3": LLAMA3,
    "gemma": GEMMA,
    "mistral": MISTRAL,
    "kitchen sink": KITCHEN_SINK,
}

_CALL = {"type": "function", "id": "abc123def", "function": {"name": "weather", "arguments": {"city": "Köln", "n": 2}}}
CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "one turn": [{"role": "user", "content": " What is 2+2? <b>&</b> \n"}],
    "system": [{"role": "system", "content": "Be brief, 请用中文。"}, {"role": "user", "content": "你好 🙂"}],
    "several turns": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!\n", "name": "x"},
        {"role": "user", "content": "Bye"},
        {"role": "assistant", "content": "Good \\ bye"},
        {"role": "user", "content": "{{ 7 * 7 }} {% raw %}"},
    ],
    "tool results": [
        {"role": "system", "content": "Use tools."},
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "", "tool_calls": [_CALL]},
        {"role": "tool", "content": '{"t": 7.5, "sky": "über"}', "tool_call_id": "abc123def"},
        {"role": "tool", "content": "sunny", "tool_call_id": "abc123def"},
        {"role": "assistant", "content": "7.5 °C", "reasoning_content": "easy"},
        {"role": "user", "content": "Thanks"},
    ],
    "parts": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": " look "}]}],
    "wrong order": [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}],
    "no content": [{"role": "user"}],
    "empty": [],
}
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": 'Weather of a city, <now> & "later" — 天气',
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    },
    {"type": "function", "function": {"name": "time", "parameters": {"type": "object", "properties": {}}}},
]
