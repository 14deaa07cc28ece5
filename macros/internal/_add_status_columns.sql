{% macro _add_status_columns(status_columns) %}
  {%- set described = model.columns | map('lower') | list -%}
  {%- for name in status_columns if name not in described -%}
    {%- do model.columns.update({name: status_columns[name]}) -%}
  {%- endfor -%}
{% endmacro %}
