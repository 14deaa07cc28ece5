{% macro _unique_key() %}
  {%- set unique_key = config.get('unique_key') -%}
  {%- if not unique_key -%}
    {%- do exceptions.raise_compiler_error(
      "model '" ~ model.name ~ "': the materialization enrichment needs a unique_key, the column or list of columns "
      ~ "that tells rows apart; add it: config(unique_key = 'id')"
    ) -%}
  {%- endif -%}
  {{ return([unique_key] if unique_key is string else unique_key) }}
{% endmacro %}
