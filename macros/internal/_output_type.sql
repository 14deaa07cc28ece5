{% macro _output_type(output) %}
  {%- for name in model.columns if name | lower == output | lower -%}
    {{ return(model.columns[name].data_type or 'varchar') }}
  {%- endfor -%}
  {{ return('varchar') }}
{% endmacro %}
