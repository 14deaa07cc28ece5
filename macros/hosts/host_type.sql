{% macro host_type(data_type) %}
  {{ return(adapter.dispatch('host_type', 'dbt_enrich')(data_type)) }}
{% endmacro %}

{% macro default__host_type(data_type) %}
  {#- The package takes names of fields that DuckDB takes for words of its own, but in quotes. -#}
  {%- set text = data_type | trim -%}
  {%- if text[-1:] == ']' -%}
    {%- set parts = text.split('[') -%}
    {{ return(dbt_enrich.default__host_type(parts[:-1] | join('[')) ~ '[' ~ parts[-1]) }}
  {%- endif -%}
  {%- set name = text.split('(')[0] | trim -%}
  {%- if name | lower not in ['struct', 'row'] -%}
    {#- Of times DuckDB takes no precision but the one that they have. -#}
    {{ return(name if name[:4] | lower == 'time' else text) }}
  {%- endif -%}
  {%- set fields = namespace(listed='') -%}
  {%- for field in dbt_enrich._type_fields((text.split('(')[1:] | join('('))[:-1]) -%}
    {%- set fields.listed = fields.listed ~ ('' if loop.first else ', ')
      ~ '"' ~ field[0] | replace('"', '""') ~ '" ' ~ dbt_enrich.default__host_type(field[1]) -%}
  {%- endfor -%}
  {{ return('struct(' ~ fields.listed ~ ')') }}
{% endmacro %}
