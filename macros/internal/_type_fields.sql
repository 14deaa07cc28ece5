{% macro _type_fields(text) %}
  {#- Name and type of each field, between commas that are in no brackets and no quotes. -#}
  {%- set found = namespace(fields=[], part='', depth=0, quote='') -%}
  {%- for char in (text ~ ',') | list -%}
    {%- set is_end = char == ',' and not found.depth and not found.quote -%}
    {%- if is_end -%}
      {%- set part = found.part | trim -%}
      {%- set mark = '"' if part[:1] == '"' else ' ' -%}
      {#- A quote within quotes is written twice. -#}
      {%- set words = (part[1:] | replace('""', '\u0001') if mark == '"' else part).split(mark) -%}
      {%- set name = words[0] | replace('\u0001', '"') -%}
      {%- set type = words[1:] | join(mark) | replace('\u0001', '""') | trim -%}
      {%- set found.fields = found.fields + [[name, type]] -%}
    {%- elif found.quote -%}
      {%- set found.quote = '' if char == found.quote else found.quote -%}
    {%- elif char in ['"', "'"] -%}
      {%- set found.quote = char -%}
    {%- elif char == '(' -%}
      {%- set found.depth = found.depth + 1 -%}
    {%- elif char == ')' -%}
      {%- set found.depth = found.depth - 1 -%}
    {%- endif -%}
    {%- set blank = char in ['\n', '\t'] and not found.quote -%}
    {%- set found.part = '' if is_end else found.part ~ (' ' if blank else char) -%}
  {%- endfor -%}
  {{ return(found.fields) }}
{% endmacro %}
