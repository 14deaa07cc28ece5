{% macro _refuse_breach(columns, sql) %}
  {#- As dbt holds a contract against `model.columns`, which dbt 2 may let no package change. -#}
  {%- do dbt_enrich._refuse_not_null_outputs() -%}
  {%- set declared = format_columns(get_column_schema_from_query(get_empty_schema_sql(columns))) -%}
  {%- set yielded = format_columns(get_column_schema_from_query(sql)) -%}
  {%- set wanted = declared | map(attribute='formatted') | sort | list -%}
  {%- if wanted != yielded | map(attribute='formatted') | sort | list -%}
    {%- do exceptions.raise_contract_error(declared, yielded) -%}
  {%- endif -%}
{% endmacro %}
