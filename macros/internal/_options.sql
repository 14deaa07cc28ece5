{% macro _options() %}
  {{ return((model.config.meta or {}).get('enrichment') or {}) }}
{% endmacro %}
