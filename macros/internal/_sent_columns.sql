{% macro _sent_columns(columns) %}
  {#- Those that a request is made of, and the unique key. One too many only has a row looked at again. -#}
  {%- set options = dbt_enrich._options() -%}
  {%- set user = options.get('user', '') | string | lower -%}
  {%- set named = (options.get('optional', '') ~ ' ' ~ options.get('images', '')) | lower -%}
  {%- set keys = dbt_enrich._unique_key() | map('lower') | list -%}
  {%- set found = namespace(columns=[]) -%}
  {%- for column in columns -%}
    {%- set name = column | lower -%}
    {%- if name in keys or ('{' ~ name ~ '}') in user or name in named -%}
      {%- set found.columns = found.columns + [column] -%}
    {%- endif -%}
  {%- endfor -%}
  {{ return(found.columns) }}
{% endmacro %}
