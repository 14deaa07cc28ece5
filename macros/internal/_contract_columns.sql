{% macro _contract_columns() %}
  {#- A contract is on all columns of the table, as the host has them; the YAML may leave ours out. -#}
  {%- set ours = dbt_enrich._status_columns() | map('first') | list -%}
  {%- set outputs = (dbt_enrich._options().get('output') or []) | map('lower') | list -%}
  {%- set found = namespace(columns={}) -%}
  {%- for name in model.columns -%}
    {%- set column = model.columns[name] -%}
    {%- if name | lower in outputs + ours and column.data_type -%}
      {%- set column = dict(column, data_type=dbt_enrich.host_type(column.data_type)) -%}
    {%- endif -%}
    {%- set found.columns = dict(found.columns, **{name: column}) -%}
  {%- endfor -%}
  {%- set described = model.columns | map('lower') | list -%}
  {%- for column in dbt_enrich._status_columns() if column[0] not in described -%}
    {%- set added = {'name': column[0], 'data_type': dbt_enrich.host_type(column[1]), 'constraints': []} -%}
    {%- set found.columns = dict(found.columns, **{column[0]: added}) -%}
  {%- endfor -%}
  {{ return(found.columns) }}
{% endmacro %}
