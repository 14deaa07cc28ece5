{% macro _create_work_schema(relation) %}
  {#- Only where it is not there: whose right to make schemas is missing may still use it. -#}
  {%- if not adapter.check_schema_exists(relation.database, relation.schema) -%}
    {%- do adapter.create_schema(relation) -%}
  {%- endif -%}
{% endmacro %}
