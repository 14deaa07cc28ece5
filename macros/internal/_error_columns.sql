{% macro _error_columns() %}
  {#- As `ERROR_TYPES` of the Python package has them. -#}
  {{ return([
    ['enrichment_key', 'uuid'],
    ['attempt', 'integer'],
    ['kind', 'varchar'],
    ['message', 'varchar'],
    ['raw_answer', 'varchar'],
    ['enrichment_model', 'varchar'],
    ['enrichment_batch_id', 'varchar'],
    ['received_at', 'timestamp with time zone'],
    ['status_code', 'integer'],
    ['sent_with', 'varchar'],
    ['retry_with', 'varchar'],
  ]) }}
{% endmacro %}
