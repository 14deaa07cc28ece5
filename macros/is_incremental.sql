{% macro is_incremental() %}
  {% if not execute %}
    {{ return(false) }}
  {% endif %}
  {%- set options = (model.config.meta or {}).get('enrichment') or {} -%}
  {%- set existing = load_cached_relation(this) -%}
  {{ return(
    options.get('publish') == 'merge'
    and existing is not none
    and existing.is_table
    and not should_full_refresh()
  ) }}
{% endmacro %}
