{% macro _task_mark() %}
  {#- Of what a task's key is made of, as the YAML has it. One too many only has rows looked at again. -#}
  {%- set options = dbt_enrich._options() -%}
  {%- set asked = namespace(text='') -%}
  {%- for key in [
    'model', 'system', 'user', 'optional', 'output', 'examples', 'response', 'parameters', 'variant', 'images',
    'image_detail', 'image_max_pixels', 'rows_per_request', 'tokens_per_request', 'pack_shares_answers',
  ] -%}
    {%- set asked.text = asked.text ~ key ~ tojson(options.get(key), sort_keys=true) -%}
  {%- endfor -%}
  {%- for name in model.columns if name | lower in (options.get('output') or []) | map('lower') | list -%}
    {%- set column = model.columns[name] -%}
    {%- set asked.text = asked.text ~ tojson([name, column.data_type | default(none), column.description, column.meta], sort_keys=true) -%}
  {%- endfor -%}
  {{ return(local_md5(asked.text)[:8]) }}
{% endmacro %}
