{% macro _refuse_other_columns(existing, columns) %}
  {#- Names alone: types the command knows better. -#}
  {%- set there = adapter.get_columns_in_relation(existing) | map(attribute='name') | map('lower') | list -%}
  {%- set outputs = dbt_enrich._options().get('output', []) -%}
  {%- set status = dbt_enrich._status_columns() | map('first') | list -%}
  {%- set wanted = (columns + outputs + status) | map('lower') | list -%}
  {%- set fix = "; run dbt with --full-refresh, which rebuilds the table and asks no answered row again" -%}
  {%- for name in wanted if name not in there -%}
    {%- do exceptions.raise_compiler_error(
      "model '" ~ model.name ~ "': the table that is merged into has no column '" ~ name ~ "'" ~ fix
    ) -%}
  {%- endfor -%}
  {%- for name in there if name not in wanted -%}
    {%- do exceptions.raise_compiler_error(
      "model '" ~ model.name ~ "': the table that is merged into has a column '" ~ name
      ~ "' that is neither in the SELECT nor among the outputs" ~ fix
    ) -%}
  {%- endfor -%}
{% endmacro %}
