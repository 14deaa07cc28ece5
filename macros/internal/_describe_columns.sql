{% macro _describe_columns(columns) %}
  {%- for column in columns -%}
    {%- do model.columns.update({column[0]: column[1]}) -%}
  {%- endfor -%}
{% endmacro %}
