{% macro fingerprint(columns) %}
  {{ return(adapter.dispatch('fingerprint', 'dbt_enrich')(columns)) }}
{% endmacro %}

{% macro default__fingerprint(columns) %}
  {#- A digest of each, so that no text can be taken for a separator; none for null. -#}
  {%- set digests -%}
    {%- for column in columns -%}
      {{ '' if loop.first else " || ',' || " }}coalesce({{ dbt.hash(adapter.quote(column)) | trim }}, '')
    {%- endfor -%}
  {%- endset -%}
  {{ return(dbt.hash(digests) | trim) }}
{% endmacro %}
