{% macro is_incremental() %}
  {% if not execute %}
    {{ return(false) }}
  {% endif %}
  {%- set options = (model.config.meta or {}).get('enrichment') or {} -%}
  {%- set existing = load_cached_relation(this) -%}
  {% if options.get('publish') != 'merge' or existing is none or not existing.is_table or should_full_refresh() %}
    {{ return(false) }}
  {% endif %}
  {#- A preview shows the first rows, whether or not they are new. -#}
  {% if dbt_enrich._mode(this) == 'preview' %}
    {{ return(false) }}
  {% endif %}
  {#- Texts that another enrichment owed stand in rows that no filter lets through any more. -#}
  {%- set columns = adapter.get_columns_in_relation(existing) | map(attribute='name') | list -%}
  {% if 'enrichment_error' in columns %}
    {% if dbt_enrich._waits(existing) %}
      {{ return(false) }}
    {% endif %}
  {% endif %}
  {#- `plan` and `preview` leave an empty table, of which no filter would ever let a row through. -#}
  {{ return(run_query('select 1 from ' ~ existing ~ ' limit 1').rows | length > 0) }}
{% endmacro %}
