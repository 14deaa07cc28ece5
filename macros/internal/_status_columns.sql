{% macro _status_columns() %}
  {#- As `STATUS_TYPES` of the Python package has them. -#}
  {{ return([
    ['enrichment_status', "enum('done', 'failed', 'pending', 'skipped', 'stale')"],
    ['enrichment_error', 'varchar'],
    ['enrichment_model', 'varchar'],
    ['enrichment_batch_id', 'varchar'],
    ['enriched_at', 'timestamp with time zone'],
    ['enrichment_key', 'uuid'],
    ['enrichment_version', 'varchar'],
  ]) }}
{% endmacro %}
