{% macro _enums() %}
  {#- The columns that are enums to the task, with their members as a list of SQL. -#}
  {%- set found = namespace(columns=[]) -%}
  {%- for name in dbt_enrich._options().get('output') or [] -%}
    {%- set kind = dbt_enrich._output_type(name) | trim -%}
    {%- if kind[:4] | lower == 'enum' and kind[-1:] == ')' -%}
      {%- set found.columns = found.columns + [[name, kind[4:]]] -%}
    {%- endif -%}
  {%- endfor -%}
  {%- for column in dbt_enrich._status_columns() if column[0] == 'enrichment_status' -%}
    {%- set found.columns = found.columns + [[column[0], column[1][4:]]] -%}
  {%- endfor -%}
  {{ return(found.columns) }}
{% endmacro %}
