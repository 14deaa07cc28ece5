{% macro _describe_status_columns() %}
  {#- A contract is on all columns of the table; the YAML may leave ours out. -#}
  {%- set described = model.columns | map('lower') | list -%}
  {%- for column in dbt_enrich._status_columns() if column[0] not in described -%}
    {%- do model.columns.update({column[0]: {
      'name': column[0],
      'data_type': dbt_enrich.host_type(column[1]),
      'description': '',
      'constraints': [],
      'meta': {},
    }}) -%}
  {%- endfor -%}
{% endmacro %}
