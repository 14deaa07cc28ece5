{% macro _create_table_of_types(relation, sql) %}
  {%- set declared = namespace(columns=[]) -%}
  {% if config.get('contract').enforced %}
    {#- A contract is on the types that the table has. -#}
    {%- set outputs = dbt_enrich._options().get('output', []) | map('lower') | list -%}
    {%- for name in model.columns if name | lower in outputs -%}
      {%- set declared.columns = declared.columns + [[name, model.columns[name]]] -%}
    {%- endfor -%}
  {% endif %}
  {%- set made = namespace(columns=[]) -%}
  {%- for column in declared.columns -%}
    {%- set type = dbt_enrich.host_type(dbt_enrich._output_type(column[0])) -%}
    {%- set made.columns = made.columns + [[column[0], dict(column[1], data_type=type)]] -%}
  {%- endfor -%}
  {%- do dbt_enrich._describe_columns(made.columns) -%}
  {%- do dbt_enrich.default__create_enriched_table(relation, sql) -%}
  {%- do dbt_enrich._describe_columns(declared.columns) -%}
{% endmacro %}
