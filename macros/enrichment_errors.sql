{% macro enrichment_errors(model_name, model_of_package=none, v=none, version=none) %}
  {#- As ref() takes them: a name, or a package and a name; package_name= is understood as well. -#}
  {%- set name = model_of_package or model_name -%}
  {%- set package = model_name if model_of_package else kwargs.get('package_name') -%}
  {%- set version = v if v is not none else version -%}
  {%- if package -%}
    {%- set relation = ref(package, name, v=version) -%}
  {%- else -%}
    {%- set relation = ref(name, v=version) -%}
  {%- endif -%}
  {{ return(dbt_enrich._errors_relation(relation)) }}
{% endmacro %}
