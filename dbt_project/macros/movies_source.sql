{% macro movies_source() %}
  {%- set path = var('movies_csv', '') -%}
  {%- if path -%}
    read_csv('{{ path | replace("'", "''") }}', all_varchar = true, header = true)
  {%- else -%}
    {{ ref('movies') }}
  {%- endif -%}
{% endmacro %}
