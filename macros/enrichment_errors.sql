{% macro enrichment_errors(model_name, package_name=none) %}
  {%- set relation = ref(package_name, model_name) if package_name else ref(model_name) -%}
  {{ return(dbt_enrich._errors_relation(relation)) }}
{% endmacro %}
