{% macro host_type(data_type) %}
  {{ return(adapter.dispatch('host_type', 'dbt_enrich')(data_type)) }}
{% endmacro %}

{% macro default__host_type(data_type) %}
  {{ return(data_type) }}
{% endmacro %}
